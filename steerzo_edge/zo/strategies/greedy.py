"""MeZO-Greedy: probe a pool, keep the best candidate, measure its other side.

    z* = argmin L(theta + eps z_i),   two-point along z*

Cost: `pool` + 1 forward passes a step. The value L(theta + eps z*) is already in the pool and is reused;
the paper's own listing evaluates it again. Source: arXiv:2601.04710.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from steerzo_edge.zo.direction import Direction
from steerzo_edge.zo.strategy import Dialogue, Memory, Probe, skip, symmetric, usable


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

    def propose(self, seeds: Iterator[int], memory: Memory) -> Dialogue:
        """See `Strategy.propose`."""
        directions = [Direction.seeded(next(seeds)) for _ in range(self.pool)]
        losses = yield [Probe(z, self.epsilon) for z in directions]

        pool = usable(directions, losses)
        if not pool.losses:
            return skip("no candidate had a finite loss", dropped=pool.dropped, memory=memory)
        plus, best = min(zip(pool.losses, pool.directions, strict=True), key=lambda pair: pair[0])

        (minus,) = yield [Probe(best, -self.epsilon)]
        return symmetric(best, plus, minus, self.epsilon, pool, memory=memory)
