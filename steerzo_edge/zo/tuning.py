"""Settings found before the first step: the probe radius, and the learning rate.

Radius. The slope of the loss along a direction, from a pair of losses, is the same at every radius between two
bounds: at smaller radii rounding is larger than the difference, at larger ones the loss is no longer linear. Slopes
along a few directions are measured at increasing radii; the smallest radius at which they agree with those at the
next larger one is chosen. Repeating one evaluation would not show the rounding: equal parameters round alike.

    cost: PAIRS * 2 * len(RADII) forwards

Learning rate. A few estimates of the method are each followed, on the NEXT batch, over a ladder of distances
stacked in one forward. The mean loss falls up to a distance R and rises after it. A single step of that length
would be best; a run makes T steps that are mostly noise, so they add up like a random walk. The rate is chosen such
that the random walk of the whole run, under its schedule, reaches about that distance:

    rate * |g| * sqrt(sum_t share_t^2) = REACH * R

This is the horizon rule of stochastic gradient descent, distance / (gradient * sqrt(T)), with a measured distance.

    cost: FOLLOWED * (cost of a step + 1 + len(RUNGS)) forwards

Limit: the loss surface is measured at the start only. The watcher corrects the rate later.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

from steerzo_edge.errors import DivergedError
from steerzo_edge.zo.direction import Direction
from steerzo_edge.zo.oracle import Oracle, Round, converse
from steerzo_edge.zo.strategy import Probe, Strategy

RADII = tuple(10 ** (power / 2) for power in range(-7, 0))  # 0.0003 to 0.3
PAIRS = 4  # directions whose slopes are measured
AGREEMENT = 0.1  # slopes agree if they differ by less than this share
FOLLOWED = 4  # estimates that are followed
# Distances along an estimate, in radii; beyond them the estimate is unreliable.
RUNGS = tuple(2.0 ** (power / 2) for power in range(9))
REACH = 1.25  # how far the run's random walk goes, in units of the best single step


@dataclass(frozen=True, slots=True)
class Radius:
    """A probe radius that was found.

    Args:
        epsilon: The radius.
        noise: Root mean square error that rounding or curvature adds to a pair's difference there, nats.
        disagreement: Of the slopes with those at the next larger radius, relative.
        forwards: Spent.
        tokens: Real tokens put through the model for them.
    """

    epsilon: float
    noise: float
    disagreement: float
    forwards: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Rate:
    """A learning rate that was found.

    Args:
        learning_rate: The peak rate.
        distance: R, root mean square over the parameters.
        gain: Mean decrease of the loss at that distance, nats.
        forwards: Spent.
        tokens: Real tokens put through the model for them.
    """

    learning_rate: float
    distance: float
    gain: float
    forwards: int
    tokens: int


def find_radius(oracle: Oracle, seeds: Iterator[int], *, block: int, tokens: int) -> Radius:
    """Measures slopes on a ladder of radii.

    Args:
        oracle: Evaluates probes, on the batch of step 0.
        seeds: Of the directions.
        block: Index of the block that is perturbed.
        tokens: Real tokens of that batch.
    """
    probes = tuple(
        Probe(direction, sign * radius)
        for direction in (Direction.seeded(next(seeds)) for _ in range(PAIRS))
        for radius in RADII
        for sign in (1, -1)
    )
    losses = oracle.evaluate(Round(0, block, probes))
    pairs = list(zip(losses[::2], losses[1::2], strict=True))
    lines = [pairs[start : start + len(RADII)] for start in range(0, len(pairs), len(RADII))]
    slopes = [[(a - b) / (2 * radius) for radius, (a, b) in zip(RADII, line, strict=True)] for line in lines]
    chosen = _smallest_agreeing(slopes)
    apart, size = _apart(slopes, min(chosen, len(RADII) - 2))
    disagreement = apart / size if size else math.inf
    noise = 2 * RADII[chosen] * apart
    return Radius(RADII[chosen], noise, disagreement, len(probes), len(probes) * tokens)


def find_rate(
    strategy: Strategy,
    oracle: Oracle,
    seeds: Callable[[int], Iterator[int]],
    *,
    blocks: Callable[[int], int],
    tokens: Callable[[int], int],
    rms_sum: float,
    effective_step: Callable[[float], float],
) -> Rate:
    """Follows a few estimates.

    Args:
        strategy: At its radius.
        oracle: Evaluates probes.
        seeds: Of a step.
        blocks: Index of the block of a step.
        tokens: Real tokens of the batch of a step.
        rms_sum: Root of the summed squared shares of the schedule.
        effective_step: `Rule.effective_step`: how far a step moves at rate 1, from the root mean square of the
            gradient.

    Raises:
        DivergedError: If no estimate could be made.
    """
    distances = [strategy.epsilon * rung for rung in RUNGS]
    curves: list[list[float]] = []
    scales: list[float] = []
    forwards = seen = 0
    for step in range(FOLLOWED):
        dialogue = strategy.propose(seeds(step), {})
        estimate, spent = converse(dialogue, oracle, step, blocks(step))
        forwards, seen = forwards + spent, seen + spent * tokens(step)
        if estimate.skipped or not estimate.gradient.scale > 0:
            continue
        ahead = estimate.gradient.normalized()
        probes = (Probe(Direction(), 0.0), *(Probe(ahead, -distance) for distance in distances))
        start, *losses = oracle.evaluate(Round(step + 1, blocks(step), probes))
        forwards, seen = forwards + len(probes), seen + len(probes) * tokens(step + 1)
        if math.isfinite(start):
            scales.append(estimate.gradient.scale)
            curves.append([loss - start if math.isfinite(loss) else math.inf for loss in losses])
    if not curves:
        raise DivergedError(
            "learning_rate: auto found no direction along which the loss changes and stays finite",
            hint="Raise batch.examples or method.epsilon until probes differ, or set rule.learning_rate.",
        )
    changes = [fmean(change) for change in zip(*curves, strict=True)]
    distance = _turning_point(distances, changes)
    rate = REACH * distance / (rms_sum * effective_step(fmean(scales)))
    return Rate(rate, distance, -min(changes), forwards, seen)


def _smallest_agreeing(slopes: Sequence[Sequence[float]]) -> int:
    """Index of the radius: the smallest whose slopes agree with the next one's, or where they agree best.

    An objective such as accuracy is piecewise constant: up to some radius both losses of a pair are equal. Radii at
    which most pairs are equal are not considered.
    """
    clear = [i for i in range(len(RADII)) if 2 * sum(line[i] != 0 for line in slopes) > len(slopes)]
    if not clear:
        return len(RADII) - 1
    relative = {}
    for index in clear[:-1] if clear[-1] == len(RADII) - 1 else clear:
        apart, size = _apart(slopes, index)
        relative[index] = apart / size if size and math.isfinite(apart) else math.inf
    good = [index for index, value in relative.items() if value < AGREEMENT]
    return good[0] if good else min(relative, key=relative.__getitem__, default=clear[0])


def _apart(slopes: Sequence[Sequence[float]], index: int) -> tuple[float, float]:
    """Root mean squares of the slopes' change to the next larger radius, and of the slopes there."""
    changes = [line[index] - line[index + 1] for line in slopes]
    return _rms(changes), _rms([line[index + 1] for line in slopes])


def _rms(values: Sequence[float]) -> float:
    return math.sqrt(math.fsum(value * value for value in values) / len(values))


def _turning_point(distances: Sequence[float], changes: Sequence[float]) -> float:
    """Distance at which the curve first turns upwards: vertex of a parabola through three points, log distance."""
    low = next((i for i, (here, there) in enumerate(pairwise(changes)) if there > here), len(changes) - 1)
    if low in (0, len(changes) - 1) or not math.isfinite(changes[low + 1]):
        return distances[low]
    left, middle, right = changes[low - 1], changes[low], changes[low + 1]
    bend = left - 2 * middle + right
    shift = 0.5 * (left - right) / bend if bend > 0 else 0.0
    return distances[low] * math.pow(distances[low + 1] / distances[low], shift)
