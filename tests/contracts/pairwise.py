"""Few cases that hold every pair of values: pairwise covering, by a greedy and deterministic search.

Most faults need one value or two values together. A covering of all pairs finds these with tens of cases where
all combinations are hundreds; a fault that needs three values together may slip through, unless the three factors
are named in `together`. The cost is one pass over all combinations for each case chosen.
Source: D. M. Cohen et al., "The AETG System", IEEE TSE 23(7), 1997.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import combinations, product

Case = tuple[str, ...]
Factors = Mapping[str, Collection[str]]
Groups = Sequence[Sequence[str]]
Part = tuple[tuple[int, str], ...]


def covering(factors: Factors, together: Groups = ()) -> list[Case]:
    """Chooses cases so that every pair of values of two factors occurs in at least one.

    Args:
        factors: the values of each factor, by its name.
        together: groups of factors of which every combination occurs, not only every pair.

    Returns:
        The cases, one value for each factor, in the order of `factors`; the same ones for the same arguments.
    """
    names = list(factors)
    groups = [
        *combinations(range(len(names)), 2),
        *(tuple(names.index(name) for name in group) for group in together),
    ]
    everything = {case: frozenset(_parts(case, groups)) for case in product(*factors.values())}
    missing = set().union(*everything.values())
    chosen: list[Case] = []
    while missing:
        best = max(everything, key=lambda case: len(missing & everything[case]))
        missing -= everything[best]
        chosen.append(best)
    return chosen


def share_of_combinations(factors: Factors, cases: Iterable[Case], size: int) -> tuple[int, int]:
    """Counts the combinations of values of `size` factors that occur in the cases, and all that exist."""
    groups = list(combinations(range(len(factors)), size))
    held = {part for case in cases for part in _parts(case, groups)}
    return len(held), len({part for case in product(*factors.values()) for part in _parts(case, groups)})


def _parts(case: Case, groups: Iterable[Sequence[int]]) -> list[Part]:
    return [tuple((index, case[index]) for index in group) for group in groups]
