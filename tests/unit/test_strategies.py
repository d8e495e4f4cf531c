"""Strategies are talked to with plain floats: no tensor, no model."""

import math
from collections.abc import Callable, Iterator
from itertools import count

import pytest

from steerzo_edge.zo.direction import Direction
from steerzo_edge.zo.scaling import Scaled
from steerzo_edge.zo.strategies.all_losses import AllLosses
from steerzo_edge.zo.strategies.greedy import Greedy
from steerzo_edge.zo.strategies.guiding_vector import GuidingVector
from steerzo_edge.zo.strategies.two_point import TwoPoint
from steerzo_edge.zo.strategies.weighted_guide import WeightedGuide
from steerzo_edge.zo.strategy import Carry, Estimate, Probe, Strategy, usable


def talk(
    strategy: Strategy, answer: Callable[[Probe], float], carry: Carry | None = None
) -> tuple[Estimate, list[list[Probe]]]:
    """One step with a world that answers each probe by a function; seeds count from 100."""
    seeds: Iterator[int] = count(100)
    dialogue = strategy.propose(seeds, carry or {})
    rounds = [next(dialogue)]
    while True:
        try:
            rounds.append(dialogue.send([answer(probe) for probe in rounds[-1]]))
        except StopIteration as end:
            return end.value, rounds


def by_seed(losses: dict[int, float], line: float = 0.0) -> Callable[[Probe], float]:
    """Loss of a single-seed probe by its seed; of any other, 1 + line * radius."""

    def answer(probe: Probe) -> float:
        ((seed, _), *others) = probe.direction.terms
        return 1 + line * probe.radius if others or probe.radius < 0 else losses.get(seed, 1.0)

    return answer


def test_two_point_measures_the_slope_on_both_sides() -> None:
    estimate, rounds = talk(TwoPoint(0.1), lambda probe: 2 + 3 * probe.radius)
    assert [[probe.radius for probe in probes] for probes in rounds] == [[0.1, -0.1]]
    assert estimate.slope == pytest.approx(3)
    assert estimate.loss == pytest.approx(2)
    assert estimate.gradient == Direction(((100, estimate.slope),))


def test_the_guide_points_from_the_bad_half_to_the_good_half() -> None:
    losses = {100: 0.3, 101: 0.9, 102: 0.1, 103: 0.5}
    estimate, rounds = talk(GuidingVector(0.1, pool=4, normalize=False), by_seed(losses, line=-2.0))
    guide = rounds[1][0].direction
    assert dict(guide.terms) == {102: 0.5, 100: 0.5, 103: -0.5, 101: -0.5}
    assert [probe.radius for probe in rounds[1]] == [0.1, -0.1]
    assert estimate.slope == pytest.approx(-2.0)
    assert estimate.gradient == (estimate.gradient.terms[0][1] / 0.5) * guide


@pytest.mark.parametrize(
    ("pool", "elite", "good"), [(2, 0.5, 1), (10, 0.3, 3), (100, 0.29, 29), (3, 0.9, 2), (8, 0.01, 1)]
)
def test_the_elite_is_floor_alpha_m_within_bounds(pool: int, elite: float, good: int) -> None:
    _, rounds = talk(GuidingVector(0.1, pool, elite, normalize=False), lambda probe: probe.direction.terms[0][0])
    assert sum(weight > 0 for _, weight in rounds[1][0].direction.terms) == good


def test_a_normalized_guide_has_the_norm_of_one_seed() -> None:
    _, rounds = talk(GuidingVector(0.1, pool=6, elite=0.3), lambda probe: probe.direction.terms[0][0])
    assert rounds[1][0].direction.scale == pytest.approx(1)


def test_keep_best_lets_the_best_seed_compete_again() -> None:
    strategy = GuidingVector(0.1, pool=3, history="keep-best")
    first, _ = talk(strategy, by_seed({100: 0.9, 101: 0.2, 102: 0.4}, line=1.0))
    assert first.carry == {"best": 101}
    second, rounds = talk(strategy, by_seed({101: 0.5, 100: 0.1, 102: 0.8}, line=1.0), {"best": 7})
    assert [probe.direction.terms[0][0] for probe in rounds[0]] == [7, 100, 101]
    assert second.carry == {"best": 100}


def test_greedy_reuses_the_winners_loss() -> None:
    estimate, rounds = talk(Greedy(0.1, pool=3), by_seed({100: 0.9, 101: 0.2, 102: 0.4}, line=2.0))
    assert [len(probes) for probes in rounds] == [3, 1]
    assert rounds[1] == [Probe(Direction.seeded(101), -0.1)]
    assert estimate.slope == pytest.approx((0.2 - 0.8) / 0.2)


def test_all_losses_weigh_each_seed_by_its_distance_from_the_mean() -> None:
    estimate, _ = talk(AllLosses(0.1, pool=3), by_seed({100: 1.0, 101: 2.0, 102: 3.0}))
    assert dict(estimate.gradient.terms) == pytest.approx({100: -5.0, 101: 0.0, 102: 5.0})
    assert estimate.loss == pytest.approx(2.0)
    assert estimate.slope == pytest.approx(math.sqrt(50))


def test_the_weighted_guide_follows_the_losses_and_measures_its_line() -> None:
    losses = {100: 1.0, 101: 2.0, 102: 3.0}
    estimate, rounds = talk(WeightedGuide(0.1, pool=3, normalize=False), by_seed(losses, line=-2.0))
    guide = {100: 1.0, 101: 0.0, 102: -1.0}  # (mean - loss) / standard deviation, which is 1 here
    assert [dict(probe.direction.terms) for probe in rounds[1]] == [guide, guide]
    assert [probe.radius for probe in rounds[1]] == [0.1, -0.1]
    assert dict(estimate.gradient.terms) == pytest.approx({100: -2.0, 101: 0.0, 102: 2.0})
    assert estimate.slope == pytest.approx(-2 * math.sqrt(2))
    assert estimate.spread == pytest.approx(1.0)
    _, rounds = talk(WeightedGuide(0.1, pool=3), by_seed(losses))
    assert rounds[1][0].direction.scale == pytest.approx(1)


def test_a_candidate_far_above_the_others_is_rejected_and_counted() -> None:
    losses = {100: 1.0, 101: 1.1, 102: 0.9, 103: 9.0}
    for strategy in (AllLosses(0.1, pool=4, reject=6), WeightedGuide(0.1, pool=4, reject=6)):
        estimate, _ = talk(strategy, by_seed(losses))
        assert (estimate.rejected, estimate.dropped) == (1, 0)
        assert 103 not in dict(estimate.gradient.terms)
    kept, _ = talk(AllLosses(0.1, pool=4), by_seed(losses))
    assert kept.rejected == 0
    assert 103 in dict(kept.gradient.terms)


def test_nothing_is_rejected_for_being_good_or_where_losses_are_equal() -> None:
    some = [Direction.seeded(seed) for seed in range(4)]
    assert usable(some, [1.0, 1.1, 0.9, -9.0], reject=3).rejected == 0
    assert usable(some, [1.0, 1.0, 1.0, 2.0], reject=3).rejected == 0  # no deviation to go by


def test_normalized_steps_have_one_length_whatever_the_losses_are() -> None:
    for spread in (1e-4, 1.0, 1e3):
        answer = by_seed({100: spread, 101: 2 * spread, 102: 3 * spread})
        estimate, _ = talk(Scaled(AllLosses(0.1, pool=3), "normalized"), answer)
        half = math.sqrt(0.5)
        assert dict(estimate.gradient.terms) == pytest.approx({100: -half, 101: 0.0, 102: half})
        assert estimate.slope == pytest.approx(spread * math.sqrt(50))


def test_a_flat_pool_moves_nothing() -> None:
    estimate, _ = talk(Scaled(AllLosses(0.1, pool=3), "normalized"), lambda probe: 0.7)
    assert estimate.gradient.scale == 0
    assert estimate.slope == 0


POOLS = [
    WeightedGuide(0.1, pool=4),
    GuidingVector(0.1, pool=4),
    Greedy(0.1, pool=4),
    AllLosses(0.1, pool=4),
]


@pytest.mark.parametrize("strategy", POOLS, ids=lambda strategy: type(strategy).__name__)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_bad_candidate_is_dropped_and_counted(strategy: Strategy, bad: float) -> None:
    estimate, rounds = talk(strategy, by_seed({100: 0.3, 101: bad, 102: 0.5, 103: 0.4}, line=1.0))
    assert estimate.dropped == 1
    assert estimate.skipped is None
    assert math.isfinite(estimate.loss)
    assert math.isfinite(estimate.slope)
    assert 101 not in dict(estimate.gradient.terms)
    assert sum(map(len, rounds)) == strategy.cost


@pytest.mark.parametrize("strategy", [*POOLS, TwoPoint(0.1)], ids=lambda strategy: type(strategy).__name__)
def test_a_step_without_a_number_is_skipped_and_says_so(strategy: Strategy) -> None:
    estimate, _ = talk(strategy, lambda probe: math.nan, {"best": 3})
    assert estimate.skipped
    assert estimate.gradient == Direction()
    assert estimate.carry == {"best": 3}
    assert estimate.dropped == (2 if isinstance(strategy, TwoPoint) else 4)


def test_a_bad_symmetric_pair_skips_the_step() -> None:
    estimate, _ = talk(Greedy(0.1, pool=2), lambda probe: math.inf if probe.radius < 0 else 1.0)
    assert estimate.skipped
    assert estimate.dropped == 1
