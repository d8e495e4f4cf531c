"""MeZO-GV: probe a pool, then walk from the bad half towards the good half.

    L_i = L(theta + eps z_i),   v = mean(z of the elite) - mean(z of the others),   two-point along v

Cost: `pool` + 2 forward passes a step. Source: arXiv:2601.04710. The pool's own values only choose v; the
slope is measured on the line, so a badly chosen v costs a step and not a wrong turn.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import floor
from typing import Literal

from steerzo_edge.zo.direction import Direction, mean
from steerzo_edge.zo.strategy import Dialogue, Memory, Probe, skip, symmetric, usable


@dataclass(frozen=True, slots=True)
class GuidingVector:
    """Two-point along the difference between good and bad candidates.

    Args:
        epsilon: Probe radius.
        pool: M, candidates a step, at least 2.
        elite: alpha, the share of the pool that counts as good; floor(alpha M), at least 1, at most M - 1.
        history: "fresh" draws every candidate anew; "keep-best" lets the best seed of the step before
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

    def propose(self, seeds: Iterator[int], memory: Memory) -> Dialogue:
        """See `Strategy.propose`; memory["best"] is the best seed of the step before."""
        kept = [memory["best"]] if self.history == "keep-best" and "best" in memory else []
        candidates = kept + [next(seeds) for _ in range(self.pool - len(kept))]
        directions = [Direction.seeded(seed) for seed in candidates]
        losses = yield [Probe(z, self.epsilon) for z in directions]

        pool = usable(directions, losses)
        if len(pool.losses) < 2:
            return skip("fewer than two candidates had a finite loss", dropped=pool.dropped, memory=memory)
        pairs = zip(pool.losses, pool.directions, strict=True)
        ranked = [z for _, z in sorted(pairs, key=lambda pair: pair[0])]
        good = max(1, min(floor(self.elite * len(ranked) + 1e-9), len(ranked) - 1))
        guide = mean(ranked[:good]) - mean(ranked[good:])
        if self.normalize:
            guide = guide.normalized()

        plus, minus = yield [Probe(guide, self.epsilon), Probe(guide, -self.epsilon)]
        remembered = {"best": ranked[0].terms[0][0]} if self.history == "keep-best" else {}
        return symmetric(guide, plus, minus, self.epsilon, pool, memory=remembered)
