"""Scaling and clipping of estimates, and the cone prior: plain floats, no tensor."""

import math

import pytest

from steerzo_edge.zo.cone import Cone
from steerzo_edge.zo.direction import Direction
from steerzo_edge.zo.scaling import Scaled, Scaling
from steerzo_edge.zo.strategies.all_losses import AllLosses
from steerzo_edge.zo.strategies.greedy import Greedy
from steerzo_edge.zo.strategies.two_point import TwoPoint
from steerzo_edge.zo.strategy import Carry, Estimate
from tests.unit.test_strategies import by_seed, talk


def slope_of(value: float, scaled: Scaled, carry: Carry | None = None) -> Estimate:
    """A two-point step in a world that rises by `value` per unit."""
    return talk(scaled, lambda probe: 1 + value * probe.radius, carry)[0]


def test_running_rms_divides_by_the_slopes_so_far() -> None:
    scaled = Scaled(TwoPoint(0.1), "running-rms", decay=0.5)
    first = slope_of(3.0, scaled)
    assert dict(first.gradient.terms) == pytest.approx({100: 1.0})  # alone, a slope is its own mean
    second = slope_of(1.0, scaled, first.carry)
    # Weights 1/4 for the old square and 1/2 for the new one, of 3/4 in all.
    rms = math.sqrt((0.25 * 9 + 0.5 * 1) / 0.75)
    assert dict(second.gradient.terms) == pytest.approx({100: 1 / rms})
    assert second.scale == pytest.approx(1 / rms)
    assert second.slope == pytest.approx(1.0)  # told as measured


def test_pool_std_is_the_fzoo_division() -> None:
    losses = {100: 1.0, 101: 2.0, 102: 3.0}
    estimate, _ = talk(Scaled(AllLosses(0.1, pool=3), "pool-std"), by_seed(losses))
    plain, _ = talk(AllLosses(0.1, pool=3), by_seed(losses))
    assert estimate.gradient.terms == (plain.gradient * 0.1).terms  # the standard deviation is 1
    assert estimate.gradient.scale == pytest.approx(1 / math.sqrt(2))


def test_clipping_needs_a_history_and_keeps_the_sign() -> None:
    scaled = Scaled(TwoPoint(0.1), "none", clip=2.0)
    first = slope_of(1.0, scaled)
    assert not first.clipped
    second = slope_of(-50.0, scaled, first.carry)
    assert second.clipped
    assert dict(second.gradient.terms) == pytest.approx({100: -2.0})
    # What was cut enters the running mean as cut, 2 and not 50: one wild slope does not open the gate for the next.
    third = slope_of(-50.0, scaled, second.carry)
    assert abs(third.gradient.terms[0][1]) == pytest.approx(2 * math.sqrt((1 + 4) / 2), rel=0.01)


@pytest.mark.parametrize("kind", ["none", "normalized", "running-rms", "pool-std"])
def test_a_skipped_step_changes_no_state(kind: Scaling) -> None:
    scaled = Scaled(AllLosses(0.1, pool=3), kind, clip=3.0)
    estimate, _ = talk(scaled, lambda probe: math.nan, {"slopes": [4.0, 2.0], "best": 3})
    assert estimate.skipped
    assert estimate.carry == {"slopes": [4.0, 2.0], "best": 3}


def test_a_cone_tilts_directions_towards_the_steps_before() -> None:
    cone = Cone(TwoPoint(0.1), angle=60, decay=0.5)
    first, rounds = talk(cone, lambda probe: 1 + 2 * probe.radius)
    assert rounds[0][0].direction == Direction.seeded(100)  # no step before: the whole sphere
    assert first.carry["cone"] == [[100, pytest.approx(1.0)]]

    _, rounds = talk(cone, lambda probe: 1.0, {"cone": [[7, -4.0]]})
    tilted = dict(rounds[0][0].direction.terms)
    assert tilted == pytest.approx({100: math.sqrt(3) / 2, 7: -0.5})
    assert rounds[0][0].direction.scale == pytest.approx(1)


def test_a_cone_moves_along_what_it_probed_and_remembers_few_terms() -> None:
    cone = Cone(Greedy(0.1, pool=2), angle=60, decay=0.5, terms=2)
    estimate, rounds = talk(cone, lambda probe: 1 + probe.radius, {"cone": [[7, 1.0], [8, 0.0], [9, 0.0]]})
    probed = rounds[1][0].direction
    assert dict(estimate.gradient.terms) == pytest.approx(dict((estimate.slope * probed).terms))
    assert len(estimate.carry["cone"]) == 2
    assert estimate.carry["cone"][-1][0] in (100, 101)  # the latest stay
