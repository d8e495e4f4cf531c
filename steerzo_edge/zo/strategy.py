"""What a zeroth-order method looks like to the engine.

A strategy is a conversation. It asks `losses = yield [Probe, ...]`, as often as it needs, and ends the step
with `return Estimate(...)`. It holds no tensor, no model and no state: what must survive from one step to
the next (a kept seed) travels in `Estimate.memory`, and so lands in the journal.
"""

import math
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from steerzo_edge.zo.direction import Direction

Memory = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Probe:
    """ "What is the loss at parameters + radius * direction?" """

    direction: Direction
    radius: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """What one step learned.

    Args:
        gradient: Estimate of the gradient of the batch loss; empty if the step is skipped.
        loss: Estimate of the batch loss at the unperturbed parameters, nats.
        slope: Projected gradient along the step's direction at norm sqrt(d).
        dropped: Candidates whose loss was not finite.
        memory: What the strategy wants to be told at its next step.
        skipped: Why there is no gradient, or None.
    """

    gradient: Direction
    loss: float
    slope: float
    dropped: int = 0
    memory: Memory = field(default_factory=dict)
    skipped: str | None = None


Dialogue = Generator[list[Probe], list[float], Estimate]


class Strategy(Protocol):
    """One method: how to spend forward passes on an estimate of the gradient."""

    @property
    def cost(self) -> int:
        """Forward passes a step takes, exactly."""
        ...

    @property
    def epsilon(self) -> float:
        """Probe radius, in units of the parameters."""
        ...

    def propose(self, seeds: Iterator[int], memory: Memory) -> Dialogue:
        """One step's conversation.

        Args:
            seeds: Endless fresh seeds, a pure function of (run seed, step).
            memory: `Estimate.memory` of the step before; empty at the first.
        """
        ...


def finite(pool: Sequence[Direction], losses: Sequence[float]) -> tuple[list[Direction], list[float]]:
    """The candidates whose loss is a number, and those losses."""
    kept = [(z, loss) for z, loss in zip(pool, losses, strict=True) if math.isfinite(loss)]
    return [z for z, _ in kept], [loss for _, loss in kept]


def skip(reason: str, *, dropped: int, memory: Memory) -> Estimate:
    """A step that moves nothing, and says why; `memory` passes through."""
    return Estimate(Direction(), math.nan, 0.0, dropped=dropped, memory=memory, skipped=reason)


def symmetric(
    direction: Direction, plus: float, minus: float, epsilon: float, *, dropped: int = 0, memory: Memory
) -> Estimate:
    """The two-point estimate along a direction from its two losses: slope * direction.

    Source: arXiv:2305.17333, the projected gradient.
    """
    lost = dropped + sum(not math.isfinite(loss) for loss in (plus, minus))
    if lost > dropped:
        return skip("a loss of the symmetric pair was not finite", dropped=lost, memory=memory)
    slope = (plus - minus) / (2 * epsilon)
    return Estimate(slope * direction, (plus + minus) / 2, slope * direction.scale, dropped=dropped, memory=memory)
