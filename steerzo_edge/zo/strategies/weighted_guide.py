"""Weighted guide: every candidate pulls the guide by how much better than the pool it was; then two-point along it.

    w_i = -(L_i - mean L) / std L,   v = sum_i w_i z_i,   two-point along v

Cost: `pool` + 2 forward passes a step. The guiding vector of MeZO-GV (arXiv:2601.04710) with the weights of
all-losses instead of two groups; the symmetric pair measures the slope on the line, so nothing is read from
radius-scaled magnitudes of the pool.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import fsum
from typing import Literal

from pydantic import Field

from steerzo_edge.zo.direction import Direction
from steerzo_edge.zo.method import Method, PoolSize, Reject
from steerzo_edge.zo.strategy import Carry, Dialogue, Probe, Strategy, skip, symmetric, usable


@dataclass(frozen=True, slots=True)
class WeightedGuide:
    """Two-point along the loss-weighted sum of a pool.

    Args:
        epsilon: Probe radius, of the pool and of the pair.
        pool: M, candidates a step, at least 2.
        normalize: Scale v to norm sqrt(d) before it is probed.
        reject: As in `usable`.
    """

    epsilon: float
    pool: int = 8
    normalize: bool = True
    reject: float | None = None

    @property
    def cost(self) -> int:
        """Forward passes a step."""
        return self.pool + 2

    @property
    def seeds(self) -> int:
        """Seeds that a step draws."""
        return self.pool

    def propose(self, seeds: Iterator[int], carry: Carry) -> Dialogue:
        """See `Strategy.propose`."""
        directions = [Direction.seeded(next(seeds)) for _ in range(self.pool)]
        losses = yield [Probe(z, self.epsilon) for z in directions]

        pool = usable(directions, losses, self.reject)
        spread = pool.spread
        if not spread:
            reason = "fewer than two candidates had a finite loss, or all losses were equal"
            return skip(reason, dropped=pool.dropped, carry=carry)
        center = fsum(pool.losses) / len(pool.losses)
        guide = Direction()
        for z, loss in zip(pool.directions, pool.losses, strict=True):
            guide = guide + (center - loss) / spread * z
        if self.normalize:
            guide = guide.normalized()

        plus, minus = yield [Probe(guide, self.epsilon), Probe(guide, -self.epsilon)]
        return symmetric(guide, plus, minus, self.epsilon, pool, carry=carry)


class WeightedGuideConfig(Method):
    """Weighted guide: builds a guiding vector from all tried directions, weighted by their losses.

    Cost: `pool` + 2 forwards a step.
    """

    kind: Literal["weighted-guide"] = "weighted-guide"
    pool: PoolSize = 8
    normalize: bool = Field(True, description="Scale the guide to norm sqrt(d) before it is probed.")
    reject: Reject = None

    def strategy(self, epsilon: float) -> Strategy:
        """See `Method.strategy`."""
        return WeightedGuide(epsilon, self.pool, self.normalize, self.reject)
