"""MeZO-GV: evaluate a pool of candidates, then step from the worse ones towards the better ones.

    L_i = L(theta + eps z_i),   v = mean(z of the elite) - mean(z of the others),   two-point along v

Cost: `pool` + 2 forward passes a step. Source: arXiv:2601.04710. The pool's own values only choose v; the
slope is measured along v itself, so a badly chosen v wastes a step but does not raise the loss.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import floor
from typing import Literal

from pydantic import Field

from steerzo_edge.zo.direction import Direction, mean
from steerzo_edge.zo.method import Method, PoolSize
from steerzo_edge.zo.strategy import Carry, Dialogue, Probe, Strategy, skip, symmetric, usable


@dataclass(frozen=True, slots=True)
class GuidingVector:
    """Two-point along the difference between good and bad candidates.

    Args:
        epsilon: Probe radius.
        pool: M, candidates a step, at least 2.
        elite: alpha, the share of the pool that counts as good; floor(alpha M), at least 1, at most M - 1.
        history: "fresh" draws every candidate at every step; "keep-best" lets the best seed of the step before
            compete again, on the new batch, with M - 1 fresh ones.
        normalize: Scale v to norm sqrt(d) before it is probed. False is the paper's own listing.
    """

    epsilon: float
    pool: int = 2
    elite: float = 0.5
    history: Literal["fresh", "keep-best"] = "fresh"
    normalize: bool = True

    @property
    def cost(self) -> int:
        """Forward passes a step."""
        return self.pool + 2

    @property
    def seeds(self) -> int:
        """Seeds that a step draws."""
        return self.pool

    def propose(self, seeds: Iterator[int], carry: Carry) -> Dialogue:
        """See `Strategy.propose`; carry["best"] is the best seed of the step before."""
        kept = [carry["best"]] if self.history == "keep-best" and "best" in carry else []
        candidates = kept + [next(seeds) for _ in range(self.pool - len(kept))]
        directions = [Direction.seeded(seed) for seed in candidates]
        losses = yield [Probe(z, self.epsilon) for z in directions]

        pool = usable(directions, losses)
        if len(pool.losses) < 2:
            return skip("fewer than two candidates had a finite loss", dropped=pool.dropped, carry=carry)
        pairs = zip(pool.losses, pool.directions, strict=True)
        ranked = [z for _, z in sorted(pairs, key=lambda pair: pair[0])]
        good = max(1, min(floor(self.elite * len(ranked) + 1e-9), len(ranked) - 1))
        guide = mean(ranked[:good]) - mean(ranked[good:])
        if self.normalize:
            guide = guide.normalized()

        plus, minus = yield [Probe(guide, self.epsilon), Probe(guide, -self.epsilon)]
        remembered = {"best": ranked[0].terms[0][0]} if self.history == "keep-best" else {}
        return symmetric(guide, plus, minus, self.epsilon, pool, carry=remembered)


class GuidingVectorConfig(Method):
    """Guiding vector (MeZO-GV): tries random directions and steps from the worse half towards the better half.

    Cost: `pool` + 2 forwards a step.
    """

    kind: Literal["guiding-vector"] = "guiding-vector"
    pool: PoolSize = 2
    elite: float = Field(0.5, gt=0, lt=1, description="Share of the pool that counts as good.")
    history: Literal["fresh", "keep-best"] = Field(
        "fresh", description="keep-best lets the last step's best candidate compete again."
    )
    normalize: bool = Field(True, description="Scale the guide to norm sqrt(d); false is the paper's listing.")

    def strategy(self, epsilon: float) -> Strategy:
        """See `Method.strategy`."""
        return GuidingVector(epsilon, self.pool, self.elite, self.history, self.normalize)
