"""MeZO: one random direction, its loss on both sides.

    s = (L(theta + eps z) - L(theta - eps z)) / 2 eps,   gradient estimate s z

Cost: 2 forward passes a step. Source: arXiv:2305.17333.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from steerzo_edge.zo.cone import ConeConfig, in_cone
from steerzo_edge.zo.direction import Direction
from steerzo_edge.zo.method import Method
from steerzo_edge.zo.strategy import Carry, Dialogue, Probe, Strategy, symmetric


@dataclass(frozen=True, slots=True)
class TwoPoint:
    """Two-sided simultaneous perturbation.

    Args:
        epsilon: Probe radius.
    """

    epsilon: float

    @property
    def cost(self) -> int:
        """Forward passes a step."""
        return 2

    @property
    def seeds(self) -> int:
        """Seeds that a step draws."""
        return 1

    def propose(self, seeds: Iterator[int], carry: Carry) -> Dialogue:
        """See `Strategy.propose`."""
        z = Direction.seeded(next(seeds))
        plus, minus = yield [Probe(z, self.epsilon), Probe(z, -self.epsilon)]

        return symmetric(z, plus, minus, self.epsilon, carry=carry)


class TwoPointConfig(Method):
    """Two point (MeZO): measures the loss on both sides of one random direction.

    Cost: 2 forwards a step.
    """

    kind: Literal["two-point"] = "two-point"
    cone: ConeConfig | None = Field(None, description="A prior for directions; null draws from the whole sphere.")

    def strategy(self, epsilon: float) -> Strategy:
        """See `Method.strategy`."""
        return in_cone(TwoPoint(epsilon), self.cone)
