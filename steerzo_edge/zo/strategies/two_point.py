"""MeZO: one random direction, its loss on both sides.

    s = (L(theta + eps z) - L(theta - eps z)) / 2 eps,   gradient estimate s z

Cost: 2 forward passes a step. Source: arXiv:2305.17333.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from steerzo_edge.zo.direction import Direction
from steerzo_edge.zo.strategy import Dialogue, Memory, Probe, symmetric


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

    def propose(self, seeds: Iterator[int], memory: Memory) -> Dialogue:
        """See `Strategy.propose`."""
        z = Direction.seeded(next(seeds))
        plus, minus = yield [Probe(z, self.epsilon), Probe(z, -self.epsilon)]

        return symmetric(z, plus, minus, self.epsilon, memory=memory)
