"""All losses: every candidate's loss weighs its own direction, against the mean of the pool.

    g = 1 / (M - 1) * sum_i (L_i - mean L) / eps * z_i

Cost: `pool` forward passes a step. Known as one-sided multi-query with a leave-one-out baseline (RLOO,
arXiv:2511.07971), and the core of FZOO (arXiv:2506.09034).

Normalised, every step has the same length whatever the losses are: g / |g|. Since |g| is the spread of the pool's
losses over eps, that is FZOO's division by their standard deviation. A run whose losses drift apart cannot take
ever longer steps then.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import fsum

from steerzo_edge.zo.direction import Direction
from steerzo_edge.zo.strategy import Dialogue, Estimate, Memory, Probe, finite, skip


@dataclass(frozen=True, slots=True)
class AllLosses:
    """One-sided estimate from every member of a pool.

    Args:
        epsilon: Probe radius.
        pool: M, candidates a step, at least 2.
        normalize: Scale the estimate to norm sqrt(d), so that the learning rate is how far a step moves a
            parameter (root mean square). False is the formula above.
    """

    epsilon: float
    pool: int = 8
    normalize: bool = False

    @property
    def cost(self) -> int:
        """Forward passes a step."""
        return self.pool

    def propose(self, seeds: Iterator[int], memory: Memory) -> Dialogue:
        """See `Strategy.propose`."""
        pool = [Direction.seeded(next(seeds)) for _ in range(self.pool)]
        losses = yield [Probe(z, self.epsilon) for z in pool]

        alive, values = finite(pool, losses)
        dropped = self.pool - len(alive)
        if len(alive) < 2:
            return skip("fewer than two candidates had a finite loss", dropped=dropped, memory=memory)
        center = fsum(values) / len(values)
        gradient = Direction()
        if max(values) == min(values):  # what rounding leaves of equal losses is no direction to normalise
            return Estimate(gradient, values[0], 0.0, dropped=dropped, memory=memory)
        for z, loss in zip(alive, values, strict=True):
            gradient = gradient + (loss - center) / (self.epsilon * (len(alive) - 1)) * z
        slope = gradient.scale
        if self.normalize:
            gradient = gradient.normalized()
        return Estimate(gradient, center, slope, dropped=dropped, memory=memory)
