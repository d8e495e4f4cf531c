"""A Direction is a weighted sum of seeds: perturbations, guiding vectors and gradient estimates are all directions.

    perturbation     1.0 * z(17)
    guiding vector   0.5 * z(17) + 0.5 * z(3) - 1.0 * z(8)
    gradient         -0.4 * (the guiding vector)

No tensor is stored: a Direction of M seeds is M integers and M floats. `materialize` turns it into numbers,
one segment of the parameter vector at a time.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from steerzo_edge.zo.noise import Noise


@dataclass(frozen=True, slots=True)
class Direction:
    """sum_i weight_i * z(seed_i), seeds distinct, in order of first appearance.

    Args:
        terms: Pairs (seed, weight); weights are Python floats (float64).
    """

    terms: tuple[tuple[int, float], ...] = ()

    @classmethod
    def seeded(cls, seed: int) -> "Direction":
        """The standard normal direction of one seed."""
        return cls(((seed, 1.0),))

    @classmethod
    def of_json(cls, terms: Iterable[Sequence[float]]) -> "Direction":
        """A direction from pairs [seed, weight], as JSON holds its `terms`."""
        return cls(tuple((int(seed), float(weight)) for seed, weight in terms))

    @classmethod
    def weighted(cls, weights: Mapping[int, float]) -> "Direction":
        """A direction from {seed: weight}."""
        return cls(tuple(weights.items()))

    def __add__(self, other: "Direction") -> "Direction":
        weights = dict(self.terms)
        for seed, weight in other.terms:
            weights[seed] = weights.get(seed, 0.0) + weight
        return Direction.weighted(weights)

    def __mul__(self, factor: float) -> "Direction":
        return Direction(tuple((seed, factor * weight) for seed, weight in self.terms))

    __rmul__ = __mul__

    def __neg__(self) -> "Direction":
        return self * -1.0

    def __sub__(self, other: "Direction") -> "Direction":
        return self + -other

    def __truediv__(self, divisor: float) -> "Direction":
        return Direction(tuple((seed, weight / divisor) for seed, weight in self.terms))

    @property
    def scale(self) -> float:
        """Expected norm in units of sqrt(d): the root of the summed squared weights."""
        return math.sqrt(math.fsum(weight * weight for _, weight in self.terms))

    def normalized(self) -> "Direction":
        """The same direction scaled to expected norm sqrt(d), like a single seed.

        Note:
            The seeds are independent, so the norm is known without a tensor; the true norm differs from it
            by a factor of 1 +- O(1 / sqrt(d)).
        """
        return self / self.scale if self.scale > 0 else self

    def materialize(self, noise: Noise, segment: int) -> Tensor:
        """The numbers of one segment.

        Args:
            noise: Where z comes from.
            segment: Index into `noise.segments`.

        Returns:
            (length of the segment,) float32; summed in the order of the terms, so that the same Direction
            gives the same bits every time.
        """
        return self.added_to(noise.zeros(segment), 1.0, noise, segment)

    def added_to(self, start: Tensor, factor: float, noise: Noise, segment: int) -> Tensor:
        """start + factor * direction on one segment.

        Args:
            start: (length of the segment,) float32; not changed.
            factor: Such as a probe's radius.
            noise: Where z comes from.
            segment: Index into `noise.segments`.

        Returns:
            (length of the segment,) float32, fresh.
        """
        if not self.terms:
            return start.clone()
        (seed, weight), *others = self.terms
        total = torch.add(start, noise.draw(seed, segment), alpha=factor * weight)
        for seed, weight in others:
            total.add_(noise.draw(seed, segment), alpha=factor * weight)
        return total


def mean(directions: Sequence[Direction]) -> Direction:
    """The average of one or more directions."""
    total = Direction()
    for direction in directions:
        total = total + direction
    return total / len(directions)
