"""From what a probe measured to the seconds that a way takes to a loss: the model, and what it does not know.

    seconds to a loss = seconds of the search for settings + steps to that loss * seconds a step

Seconds are measured. Steps are measured where the probe reached the loss: the place between two evaluations is on
the straight line between them. Where it did not, they are extrapolated along the straight line from the first
evaluation through the last one. Learning slows down, so the true number is larger: it is a lower bound.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

# Less than this share of the loss at the start is no progress that could be extrapolated.
LEAST_PROGRESS = 0.01
How = Literal["measured", "at-least", "unknown"]


@dataclass(frozen=True, slots=True)
class Point:
    """One evaluation of a probe.

    Args:
        steps: Finished steps.
        loss: On rows that are not trained on, in nats.
    """

    steps: int
    loss: float


@dataclass(frozen=True, slots=True)
class Reach:
    """The steps that a method takes to a loss.

    Args:
        steps: How many; None if the probe does not say.
        how: "measured", "at-least" (a straight line beyond the probe) or "unknown" (no progress within it).
    """

    steps: float | None
    how: How


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One way to run the job: what it takes in memory and in seconds.

    Args:
        method: The `method.kind`.
        exact_layers: Trained layers with exact gradients.
        memory: The setting `memory`.
        kept: What a step keeps for its backward pass, in words; "" for forward passes only.
        estimated: Bytes of the process, by the estimate.
        fits: Whether the estimate stays within the limit; a way that does not fit is not probed.
        peak: Bytes that the process had at most, measured; None if it was not.
        step_s: Measured seconds a step, the median; None if no step was finished.
        timed: How many steps that is the median of.
        search_s: Seconds of the search for settings left to "auto"; 0 without one, None if it was not finished.
        reach: Steps to the loss.
        learned: The evaluations that `reach` comes from, taken with one setting of `memory` for both.
        failure: Why something is missing; None if nothing is.
    """

    method: str
    exact_layers: int
    memory: str
    kept: str
    estimated: int
    fits: bool
    peak: int | None
    step_s: float | None
    timed: int
    search_s: float | None
    reach: Reach
    learned: tuple[Point, ...]
    failure: str | None

    @property
    def seconds(self) -> float | None:
        """Seconds to the loss; None if the probe does not say."""
        if self.step_s is None or self.search_s is None or self.reach.steps is None:
            return None
        return self.search_s + self.reach.steps * self.step_s

    @property
    def bytes(self) -> int:
        """Bytes of the process: measured, or estimated where it was not measured."""
        return self.estimated if self.peak is None else self.peak


@dataclass(frozen=True, slots=True)
class Curve:
    """The ways to run one job on one machine.

    Args:
        base: Name of the base, with its quantization.
        machine: The device.
        loss: That the seconds lead to, in nats; None if no probe lowered the loss.
        chosen: Whether the user named it; otherwise it is the lowest that a probe reached.
        limit: Bytes that the process may have.
        points: The ways.
    """

    base: str
    machine: str
    loss: float | None
    chosen: bool
    limit: int
    points: tuple[CurvePoint, ...]


def reach(points: Sequence[Point], loss: float) -> Reach:
    """The steps to a loss, from the evaluations of a probe.

    Args:
        points: In the order of their steps; the first is that of the untouched base.
        loss: To be reached.
    """
    if not points:
        return Reach(None, "unknown")
    start, last = points[0], points[-1]
    before = start
    for point in points:
        if point.loss <= loss:
            fallen = before.loss - point.loss
            share = (before.loss - loss) / fallen if fallen > 0 else 1.0
            return Reach(before.steps + share * (point.steps - before.steps), "measured")
        before = point
    progress = start.loss - last.loss
    if progress < LEAST_PROGRESS * start.loss or last.steps == 0:
        return Reach(None, "unknown")
    return Reach(last.steps * (start.loss - loss) / progress, "at-least")


def lowest(probes: Sequence[Sequence[Point]]) -> float | None:
    """The lowest loss of an evaluation after training began, if it is below the start of its probe."""
    found = [
        point.loss
        for points in probes
        for point in points[1:]
        if points[0].loss - point.loss >= LEAST_PROGRESS * points[0].loss
    ]
    return min(found, default=None)
