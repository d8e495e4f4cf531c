"""What a zeroth-order method looks like to the engine.

A strategy is a generator. It asks `losses = yield [Probe, ...]`, as often as it needs, and ends the step
with `return Estimate(...)`. It holds no tensor, no model and no state: what one step passes to the next
(a kept seed) is in `Estimate.carry`, which the journal stores.
"""

import math
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Protocol

from steerzo_edge.zo.direction import Direction

Carry = Mapping[str, Any]  # values as JSON has them


@dataclass(frozen=True, slots=True)
class Probe:
    """Asks for the loss at parameters + radius * direction."""

    direction: Direction
    radius: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """The result of one step: an estimate of the gradient.

    Args:
        gradient: Estimate of the gradient of the batch loss; empty if the step is skipped.
        loss: Estimate of the batch loss at the unperturbed parameters, nats.
        slope: Projected gradient along the step's direction at norm sqrt(d).
        dropped: Candidates whose loss was not finite.
        rejected: Candidates whose loss was finite, but far above the pool's.
        spread: Standard deviation of the pool's losses, nats; None where there is no pool.
        scale: Factor that the estimate was multiplied by (see `scaling.py`).
        clipped: Whether its slope was cut to a bound.
        carry: What the strategy is given at its next step.
        skipped: Why there is no gradient, or None.
    """

    gradient: Direction
    loss: float
    slope: float
    dropped: int = 0
    rejected: int = 0
    spread: float | None = None
    scale: float = 1.0
    clipped: bool = False
    carry: Carry = field(default_factory=dict)
    skipped: str | None = None


Dialogue = Generator[list[Probe], list[float], Estimate]


class Strategy(Protocol):
    """One method of estimating the gradient from losses."""

    @property
    def cost(self) -> int:
        """Forward passes a step takes, exactly."""
        ...

    @property
    def seeds(self) -> int:
        """Most seeds that the directions of one step are made of."""
        ...

    @property
    def epsilon(self) -> float:
        """Probe radius, in units of the parameters."""
        ...

    def propose(self, seeds: Iterator[int], carry: Carry) -> Dialogue:
        """Estimates the gradient of one step.

        Args:
            seeds: Endless fresh seeds, a pure function of (run seed, step).
            carry: `Estimate.carry` of the step before; empty at the first.
        """
        ...


@dataclass(frozen=True, slots=True)
class Pool:
    """The candidates of a step whose losses can be used.

    Args:
        directions: The candidates.
        losses: Their losses, nats.
        dropped: Candidates whose loss was not finite.
        rejected: Candidates whose loss was finite, but far above the others'.
    """

    directions: list[Direction]
    losses: list[float]
    dropped: int
    rejected: int = 0

    @property
    def spread(self) -> float | None:
        """Standard deviation of the losses, nats; None if there are fewer than two."""
        if len(self.losses) < 2:
            return None
        center = math.fsum(self.losses) / len(self.losses)
        return math.sqrt(math.fsum((loss - center) ** 2 for loss in self.losses) / (len(self.losses) - 1))


def usable(directions: Sequence[Direction], losses: Sequence[float], reject: float | None = None) -> Pool:
    """Removes candidates whose losses would spoil a mean.

    Args:
        directions: All candidates.
        losses: Of each, nats; nan and inf are dropped.
        reject: Drop losses that lie above the median by more than this many standard deviations, estimated as
            1.4826 times the median absolute deviation (exact for normal losses); None keeps all that are finite.
    """
    pairs = [(z, loss) for z, loss in zip(directions, losses, strict=True) if math.isfinite(loss)]
    dropped = len(directions) - len(pairs)
    bound = math.inf
    if reject is not None and len(pairs) > 2:
        center = median(loss for _, loss in pairs)
        deviation = 1.4826 * median(abs(loss - center) for _, loss in pairs)
        bound = center + reject * deviation if deviation > 0 else math.inf
    kept = [(z, loss) for z, loss in pairs if loss <= bound]
    return Pool([z for z, _ in kept], [loss for _, loss in kept], dropped, len(pairs) - len(kept))


def skip(reason: str, *, dropped: int, carry: Carry) -> Estimate:
    """The estimate of a step that moves nothing, with the reason; `carry` is passed on."""
    return Estimate(Direction(), math.nan, 0.0, dropped=dropped, carry=carry, skipped=reason)


def symmetric(
    direction: Direction, plus: float, minus: float, epsilon: float, pool: Pool | None = None, *, carry: Carry
) -> Estimate:
    """The two-point estimate along a direction from its two losses: slope * direction.

    Source: arXiv:2305.17333, the projected gradient.
    """
    dropped, rejected = (0, 0) if pool is None else (pool.dropped, pool.rejected)
    lost = sum(not math.isfinite(loss) for loss in (plus, minus))
    if lost:
        return skip("a loss of the symmetric pair was not finite", dropped=dropped + lost, carry=carry)
    slope = (plus - minus) / (2 * epsilon)
    return Estimate(
        slope * direction,
        (plus + minus) / 2,
        slope * direction.scale,
        dropped=dropped,
        rejected=rejected,
        spread=None if pool is None else pool.spread,
        carry=carry,
    )
