"""Radius and rate, found on losses that are known in closed form."""

import math
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import pytest

from steerzo_edge.errors import DivergedError
from steerzo_edge.seeds import step_seeds
from steerzo_edge.zo.direction import Direction
from steerzo_edge.zo.entry import Entry
from steerzo_edge.zo.oracle import Round
from steerzo_edge.zo.scaling import Scaled
from steerzo_edge.zo.strategies.all_losses import AllLosses
from steerzo_edge.zo.strategies.two_point import TwoPoint
from steerzo_edge.zo.strategy import Strategy
from steerzo_edge.zo.tuning import AGREEMENT, FOLLOWED, PAIRS, RADII, RUNGS, find_radius, find_rate

TOKENS = 7


class World:
    """Answers probes by a function of their displacement; every seed is a coordinate of its own."""

    def __init__(self, loss: Callable[[dict[int, float]], float]) -> None:
        self._loss = loss
        self.forwards = 0

    def evaluate(self, round: Round) -> list[float]:
        self.forwards += len(round.probes)
        return [self._loss({s: probe.radius * w for s, w in probe.direction.terms}) for probe in round.probes]

    def follow(self, entry: Entry) -> None:
        raise AssertionError("nothing moves before the first step")


def slope(seed: int) -> float:
    """The gradient's coordinate along a seed: about normal, never tiny."""
    return 0.5 + (seed % 1000) / 1000


def noise(at: dict[int, float]) -> float:
    """Looks random, is repeatable, and is 0 at the origin: what rounding does."""
    return math.sin(1e7 * sum((seed % 97 + 1) * x for seed, x in at.items()))


def rate_of(
    world: World, strategy: Strategy, rms_sum: float = 10.0, effective_step: Callable[[float], float] = float
) -> Any:
    def seeds(step: int) -> Iterator[int]:
        return step_seeds(3, step)

    return find_rate(
        strategy,
        world,
        seeds,
        blocks=lambda step: 0,
        tokens=lambda step: TOKENS,
        rms_sum=rms_sum,
        effective_step=effective_step,
    )


def test_the_radius_stands_clear_of_the_noise() -> None:
    def world(size: float) -> World:
        return World(lambda at: sum(slope(s) * x for s, x in at.items()) + size * noise(at))

    found = [find_radius(world(size), step_seeds(0, 0), block=0, tokens=TOKENS) for size in (0.0, 1e-4, 1e-3)]
    assert [radius.epsilon for radius in found] == sorted(radius.epsilon for radius in found)
    assert found[0].epsilon == RADII[0]
    for radius, size in zip(found[1:], (1e-4, 1e-3), strict=True):
        assert radius.disagreement < AGREEMENT
        assert radius.epsilon > 3 * size  # a difference of 2 epsilon times a slope near 1, against the noise
        assert size / 3 < radius.noise < 10 * size
    assert found[0].forwards == PAIRS * 2 * len(RADII)
    assert found[0].tokens == 7 * found[0].forwards


def test_the_radius_of_a_loss_of_steps_is_one_where_losses_differ() -> None:
    """A share of right answers: flat on both sides up to some radius."""

    def share(at: dict[int, float]) -> float:
        return round(16 * sum(slope(s) * x for s, x in at.items()) / 2) / 16

    found = find_radius(World(share), step_seeds(0, 0), block=0, tokens=TOKENS)
    seeds = list(islice(step_seeds(0, 0), PAIRS))
    assert sum(share({seed: found.epsilon}) != share({seed: -found.epsilon}) for seed in seeds) > PAIRS / 2
    flat = find_radius(World(lambda at: 0.5), step_seeds(0, 0), block=0, tokens=TOKENS)
    assert flat.epsilon == RADII[-1]
    assert not math.isfinite(flat.disagreement)


def test_the_radius_stays_below_curvature() -> None:
    cubic = World(lambda at: sum(slope(s) * x + 300 * x**3 for s, x in at.items()) + 1e-6 * noise(at))
    found = find_radius(cubic, step_seeds(0, 0), block=0, tokens=TOKENS)
    assert found.disagreement < AGREEMENT
    assert 300 * found.epsilon**2 < 0.1


@pytest.mark.parametrize("rms_sum", [5.0, 20.0])
def test_the_rate_spreads_the_measured_distance_over_the_run(rms_sum: float) -> None:
    curvature = 2.0
    world = World(lambda at: sum(slope(s) * x + curvature * x * x / 2 for s, x in at.items()))
    strategy = TwoPoint(0.1)
    found = rate_of(world, strategy, rms_sum)
    # Along one seed the vertex is at slope / curvature; slopes are 0.5 to 1.5, here squared means do not matter.
    assert 0.25 <= found.distance <= 0.75
    assert found.learning_rate * rms_sum == pytest.approx(rate_of(world, strategy, 1.0).learning_rate)
    assert found.forwards == FOLLOWED * (2 + 1 + len(RUNGS))
    assert found.gain > 0


def test_the_rate_depends_on_the_length_of_the_methods_step() -> None:
    world = World(lambda at: sum(slope(s) * x + x * x for s, x in at.items()))
    plain = rate_of(world, AllLosses(0.1, pool=8))
    normalized = rate_of(world, Scaled(AllLosses(0.1, pool=8), "normalized"))
    assert normalized.distance == pytest.approx(plain.distance)
    # The rate of normalised steps is a length; of plain ones a length over the estimate's.
    assert normalized.learning_rate != pytest.approx(plain.learning_rate, rel=0.1)
    constant = rate_of(world, AllLosses(0.1, pool=8), effective_step=lambda gradient: 1.0)
    assert constant.learning_rate == pytest.approx(normalized.learning_rate)


def test_without_any_estimate_the_search_fails() -> None:
    with pytest.raises(DivergedError, match="no direction"):
        rate_of(World(lambda at: math.nan), TwoPoint(0.1))


def test_losses_that_are_not_finite_end_the_search() -> None:
    def loss(at: dict[int, float]) -> float:
        far = math.sqrt(sum(x * x for x in at.values()))
        return math.nan if far > 0.5 else sum(slope(s) * x for s, x in at.items())

    found = rate_of(World(loss), TwoPoint(0.1))
    assert found.distance <= 0.5


def test_directions_are_measured_at_their_norm() -> None:
    assert Direction.weighted({1: 3.0, 2: 4.0}).normalized().scale == pytest.approx(1)
