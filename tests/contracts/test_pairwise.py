"""The covering holds what it promises: every pair, every group that is named, the same cases every time."""

from itertools import combinations, product

import pytest

from tests.contracts import test_engine as engine
from tests.contracts import test_families as families
from tests.contracts import test_same_losses as same_losses
from tests.contracts.pairwise import Factors, Groups, covering, share_of_combinations

SMALL = {
    "size": ["s", "m", "l"],
    "colour": ["red", "blue"],
    "shape": ["round", "square"],
    "weight": ["1", "2", "3"],
}


def test_every_pair_occurs() -> None:
    cases = covering(SMALL)
    for (first, a), (second, b) in combinations(enumerate(SMALL.values()), 2):
        assert {(case[first], case[second]) for case in cases} == set(product(a, b))
    assert len(cases) < 12  # of 36; two factors of three values need nine


def test_a_pair_that_is_missing_is_noticed() -> None:
    cases = covering(SMALL)
    found, all_pairs = share_of_combinations(SMALL, cases[1:], 2)
    assert found < all_pairs
    assert share_of_combinations(SMALL, cases, 2) == (all_pairs, all_pairs)
    assert share_of_combinations(SMALL, product(*SMALL.values()), 3)[0] == 12 + 18 + 18 + 12


def test_every_combination_of_a_named_group_occurs() -> None:
    cases = covering(SMALL, [("weight", "size", "colour")])
    assert {(weight, size, colour) for size, colour, _, weight in cases} == set(
        product(SMALL["weight"], SMALL["size"], SMALL["colour"])
    )


def test_the_cases_are_the_same_every_time() -> None:
    assert covering(SMALL) == covering({name: tuple(values) for name, values in SMALL.items()})
    assert covering(SMALL)[:3] == [
        ("s", "red", "round", "1"),
        ("s", "blue", "square", "2"),
        ("m", "red", "square", "3"),
    ]


@pytest.mark.parametrize(
    ("factors", "together", "cases", "pairs", "triples", "all_triples"),
    [
        (engine.FACTORS, engine.TOGETHER, 72, 184, 467, 738),
        (engine.STACK_FACTORS, engine.STACKED_TOGETHER, 30, 71, 105, 154),
        (families.WAY_FACTORS, [], 70, 127, 70, 210),
        (same_losses.FACTORS, same_losses.TOGETHER, 60, 155, 217, 483),
        (same_losses.FAMILY_FACTORS, [], 126, 218, 126, 504),
        (same_losses.RANK_FACTORS, same_losses.RANKS_TOGETHER, 36, 69, 117, 144),
    ],
    ids=["engine", "stacked-probes", "ways-of-families", "same-losses", "families", "ranks"],
)
def test_what_the_suites_cover_is_what_their_comments_say(
    factors: Factors, together: Groups, cases: int, pairs: int, triples: int, all_triples: int
) -> None:
    chosen = covering(factors, together)
    assert len(chosen) == cases
    assert share_of_combinations(factors, chosen, 2) == (pairs, pairs)
    assert share_of_combinations(factors, chosen, 3) == (triples, all_triples)
