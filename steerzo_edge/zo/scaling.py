"""Scales and clips gradient estimates before the rule uses them, so that one learning rate fits many methods.

    none           g as the method gives it
    normalized     g / |g|: every step has the same length (root mean square over the parameters: the learning rate)
    running-rms    g / sqrt(running mean of squared slopes): one scalar of state (MEAZO, arXiv:2605.03869)
    pool-std       g * eps / std of the pool's losses (FZOO, arXiv:2506.09034); for all-losses the direction is that
                   of `normalized`, and the length 1 / sqrt(M - 1)

Before that, a slope may be clipped to a multiple of the running root mean square of the slopes before it. QZO
(arXiv:2505.13430) clips at a fixed value; a relative bound does not depend on the task. Skipped steps change
nothing. The state is two numbers in `Estimate.carry`.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from steerzo_edge.zo.strategy import Carry, Dialogue, Estimate, Strategy

Scaling = Literal["none", "normalized", "running-rms", "pool-std"]


@dataclass(frozen=True, slots=True)
class Scaled:
    """A strategy around another one: scales and clips its estimates.

    Args:
        inner: The strategy.
        kind: Which scaling.
        clip: Largest slope, in running root mean squares of the slopes before it; None does not clip.
        decay: Of the running mean of squared slopes.
    """

    inner: Strategy
    kind: Scaling = "none"
    clip: float | None = None
    decay: float = 0.99

    @property
    def cost(self) -> int:
        """Forward passes a step."""
        return self.inner.cost

    @property
    def seeds(self) -> int:
        """Seeds that a step draws; scaling draws none."""
        return self.inner.seeds

    @property
    def epsilon(self) -> float:
        """Probe radius."""
        return self.inner.epsilon

    def propose(self, seeds: Iterator[int], carry: Carry) -> Dialogue:
        """See `Strategy.propose`; carry["slopes"] is [running sum of squares, its weight]."""
        estimate = yield from self.inner.propose(seeds, carry)
        before = carry.get("slopes", [0.0, 0.0])
        if estimate.skipped or not estimate.gradient.terms:
            return replace(estimate, carry={**estimate.carry, "slopes": before})
        cut = self._cut(estimate.slope, before)
        square, weight = (
            self.decay * old + (1 - self.decay) * new for old, new in self._seen(estimate, cut, before)
        )
        factor = cut * self._factor(estimate, cut, math.sqrt(square / weight))
        return replace(
            estimate,
            gradient=factor * estimate.gradient,
            scale=factor,
            clipped=cut < 1,
            carry={**estimate.carry, "slopes": [square, weight]},
        )

    def _cut(self, slope: float, before: list[float]) -> float:
        """Factor, at most 1, that brings the slope within the bound."""
        square, weight = before
        if self.clip is None or weight == 0 or square == 0:
            return 1.0
        return min(1.0, self.clip * math.sqrt(square / weight) / max(abs(slope), 1e-300))

    def _seen(self, estimate: Estimate, cut: float, before: list[float]) -> list[tuple[float, float]]:
        return list(zip(before, [(cut * estimate.slope) ** 2, 1.0], strict=True))

    def _factor(self, estimate: Estimate, cut: float, rms: float) -> float:
        if self.kind == "normalized":
            return 1 / (cut * estimate.gradient.scale) if estimate.gradient.scale > 0 else 1.0
        if self.kind == "running-rms":
            return 1 / rms if rms > 0 else 1.0
        if self.kind == "pool-std":
            return self.epsilon / estimate.spread if estimate.spread else 1.0
        return 1.0
