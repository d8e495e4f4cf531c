"""All losses: each candidate's direction is weighted by its loss minus the mean loss of the pool.

    g = 1 / (M - 1) * sum_i (L_i - mean L) / eps * z_i

Cost: `pool` forward passes a step. Known as one-sided multi-query with a leave-one-out baseline (RLOO,
arXiv:2511.07971), and the core of FZOO (arXiv:2506.09034), which also divides by the standard deviation of the
pool's losses: see `scaling.py`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import fsum
from typing import Literal

from pydantic import Field

from steerzo_edge.zo.direction import Direction
from steerzo_edge.zo.method import Method, PoolSize, Reject
from steerzo_edge.zo.scaling import Scaling
from steerzo_edge.zo.strategy import Carry, Dialogue, Estimate, Probe, Strategy, skip, usable


@dataclass(frozen=True, slots=True)
class AllLosses:
    """One-sided estimate from every member of a pool.

    Args:
        epsilon: Probe radius.
        pool: M, candidates a step, at least 2.
        reject: As in `usable`.
    """

    epsilon: float
    pool: int = 8
    reject: float | None = None

    @property
    def cost(self) -> int:
        """Forward passes a step."""
        return self.pool

    @property
    def seeds(self) -> int:
        """Seeds that a step draws."""
        return self.pool

    def propose(self, seeds: Iterator[int], carry: Carry) -> Dialogue:
        """See `Strategy.propose`."""
        directions = [Direction.seeded(next(seeds)) for _ in range(self.pool)]
        losses = yield [Probe(z, self.epsilon) for z in directions]

        pool = usable(directions, losses, self.reject)
        if len(pool.losses) < 2:
            return skip("fewer than two candidates had a finite loss", dropped=pool.dropped, carry=carry)
        center = fsum(pool.losses) / len(pool.losses)
        gradient = Direction()
        if max(pool.losses) > min(pool.losses):  # equal losses differ by rounding of the mean only
            for z, loss in zip(pool.directions, pool.losses, strict=True):
                gradient = gradient + (loss - center) / (self.epsilon * (len(pool.losses) - 1)) * z
        return Estimate(
            gradient,
            center,
            gradient.scale,
            dropped=pool.dropped,
            rejected=pool.rejected,
            spread=pool.spread,
            carry=carry,
        )


class AllLossesConfig(Method):
    """All losses (RLOO): tries random directions and steps along all of them, weighted by their losses.

    Cost: `pool` forwards a step.
    """

    kind: Literal["all-losses"] = "all-losses"
    pool: PoolSize = 16
    scaling: Scaling = Field("normalized", description="How estimates are scaled: see `zo/scaling.py`.")
    reject: Reject = None

    def strategy(self, epsilon: float) -> Strategy:
        """See `Method.strategy`."""
        return AllLosses(epsilon, self.pool, self.reject)
