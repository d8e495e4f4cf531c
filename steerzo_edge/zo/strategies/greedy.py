"""MeZO-Greedy: evaluate a pool of candidates, then measure the opposite side of the best one.

    z* = argmin L(theta + eps z_i),   two-point along z*

Cost: `pool` + 1 forward passes a step. The value L(theta + eps z*) is already in the pool and is reused;
the paper's own listing evaluates it again. Source: arXiv:2601.04710.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from steerzo_edge.zo.cone import ConeConfig, in_cone
from steerzo_edge.zo.direction import Direction
from steerzo_edge.zo.method import Method, PoolSize
from steerzo_edge.zo.strategy import Carry, Dialogue, Probe, Strategy, skip, symmetric, usable


@dataclass(frozen=True, slots=True)
class Greedy:
    """Two-point along the best of a pool of candidates.

    Args:
        epsilon: Probe radius.
        pool: M, candidates a step.
    """

    epsilon: float
    pool: int = 4

    @property
    def cost(self) -> int:
        """Forward passes a step."""
        return self.pool + 1

    @property
    def seeds(self) -> int:
        """Seeds that a step draws."""
        return self.pool

    def propose(self, seeds: Iterator[int], carry: Carry) -> Dialogue:
        """See `Strategy.propose`."""
        directions = [Direction.seeded(next(seeds)) for _ in range(self.pool)]
        losses = yield [Probe(z, self.epsilon) for z in directions]

        pool = usable(directions, losses)
        if not pool.losses:
            return skip("no candidate had a finite loss", dropped=pool.dropped, carry=carry)
        plus, best = min(zip(pool.losses, pool.directions, strict=True), key=lambda pair: pair[0])

        (minus,) = yield [Probe(best, -self.epsilon)]
        return symmetric(best, plus, minus, self.epsilon, pool, carry=carry)


class GreedyConfig(Method):
    """Greedy (MeZO-Greedy): tries random directions and steps along the best one only.

    Cost: `pool` + 1 forwards a step.
    """

    kind: Literal["greedy"] = "greedy"
    pool: PoolSize = 4
    cone: ConeConfig | None = Field(None, description="A prior for directions; null draws from the whole sphere.")

    def strategy(self, epsilon: float) -> Strategy:
        """See `Method.strategy`."""
        return in_cone(Greedy(epsilon, self.pool), self.cone)
