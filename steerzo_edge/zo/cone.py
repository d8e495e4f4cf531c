"""A cone prior: directions are drawn around the running mean of the steps before, not from the whole sphere.

    z  ->  sin(angle) z + cos(angle) m / |m|        m <- decay m + (1 - decay) g

Cost: the forward passes of the strategy inside it. Source: ConMeZO, arXiv:2511.02757. The axis m is stored as the
seeds and weights of the last `terms` directions instead of as a vector, so it fits into the journal and needs no
memory; in exchange those seeds are drawn again at every step.

The map is linear in the seeds, so the strategy inside does not change. For methods that centre their weights
(all-losses, the guides) the axis cancels out of the estimate; the cone is meant for two-point and greedy.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from pydantic import Field

from steerzo_edge.config import Config
from steerzo_edge.zo.direction import Direction
from steerzo_edge.zo.strategy import Carry, Dialogue, Estimate, Probe, Strategy


@dataclass(frozen=True, slots=True)
class Cone:
    """A strategy around another one: its directions are tilted towards the running mean of the steps.

    Args:
        inner: The strategy; its directions must have norm sqrt(d).
        angle: Between axis and direction, degrees; at 90 the axis has no influence.
        decay: Of the running mean.
        terms: Most seeds that the axis is made of, the latest ones.
    """

    inner: Strategy
    angle: float = 80.0
    decay: float = 0.9
    terms: int = 32

    @property
    def cost(self) -> int:
        """Forward passes a step."""
        return self.inner.cost

    @property
    def seeds(self) -> int:
        """Seeds that a step draws: its own, and those of the axis."""
        return self.inner.seeds + self.terms

    @property
    def epsilon(self) -> float:
        """Probe radius."""
        return self.inner.epsilon

    def propose(self, seeds: Iterator[int], carry: Carry) -> Dialogue:
        """See `Strategy.propose`; carry["cone"] holds the running mean as pairs of seed and weight."""
        mean = Direction(tuple((int(seed), float(weight)) for seed, weight in carry.get("cone", ())))
        dialogue = self.inner.propose(seeds, carry)
        probes = next(dialogue)
        while True:
            losses = yield [Probe(self._tilted(probe.direction, mean), probe.radius) for probe in probes]
            try:
                probes = dialogue.send(losses)
            except StopIteration as end:
                return self._remembering(end.value, mean)

    def _tilted(self, direction: Direction, mean: Direction) -> Direction:
        if mean.scale == 0:
            return direction
        angle = math.radians(self.angle)
        along = math.fsum(weight for _, weight in direction.terms)
        return math.sin(angle) * direction + math.cos(angle) * along * mean.normalized()

    def _remembering(self, estimate: Estimate, mean: Direction) -> Estimate:
        gradient = self._tilted(estimate.gradient, mean)
        if not estimate.skipped:
            mean = self.decay * mean + (1 - self.decay) * gradient
        kept = [list(term) for term in mean.terms[-self.terms :]]
        return replace(estimate, gradient=gradient, carry={**estimate.carry, "cone": kept})


class ConeConfig(Config):
    """A cone prior (ConMeZO): directions around the running mean of the steps before."""

    angle: float = Field(80.0, gt=0, lt=90, description="Between axis and direction, degrees.")
    decay: float = Field(0.9, ge=0, lt=1, description="Of the running mean.")
    terms: int = Field(32, ge=1, le=1024, description="Most seeds the axis is made of; each is drawn every step.")


def in_cone(strategy: Strategy, cone: ConeConfig | None) -> Strategy:
    """The strategy with its directions drawn from a cone, or as it is for None."""
    return strategy if cone is None else Cone(strategy, cone.angle, cone.decay, cone.terms)
