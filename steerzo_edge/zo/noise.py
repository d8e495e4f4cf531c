"""Seeded, order-free noise: z(seed) as a pure function of (seed, position).

The parameter vector is cut into fixed segments, and each (seed, segment) pair seeds its own generator, so any
part of any z can be drawn again at any time, in any order. Therefore a journal of seeds describes a whole run,
and bf16 layers are perturbed without a second copy of them.

Limit: a CPU and a GPU, or two kinds of GPU, give different z for one seed, because torch's generators differ.
A journal names the kind of device it was written on.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Iterable
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from steerzo_edge.seeds import derive_seed

SEGMENT = 1 << 20
CACHE_BYTES = 256 << 20
Distribution = Literal["gaussian", "rademacher"]


class Noise:
    """Vectors of `size` independent numbers of mean 0 and variance 1, drawn segment by segment.

    Args:
        size: d, the length of the parameter vector.
        device: Where the numbers are drawn and kept.
        cache_bytes: Size of the cache of segments drawn last, so that a step draws each z once.
        cuts: Places in 0 .. d where a segment must end; a segment ends after 2**20 numbers anyway.
        distribution: "gaussian", or "rademacher": +1 or -1, so that every direction has norm sqrt(d) exactly.

    Attributes:
        segments: The segments as slices of d, in order.
    """

    def __init__(
        self,
        size: int,
        device: torch.device | str = "cpu",
        cache_bytes: int = CACHE_BYTES,
        *,
        cuts: Iterable[int] = (),
        distribution: Distribution = "gaussian",
    ) -> None:
        self.size = size
        self.distribution = distribution
        self.device = torch.device(device)
        bounds = sorted({0, size, *cuts})
        self.segments = [
            slice(start, min(start + SEGMENT, stop))
            for low, stop in pairwise(bounds)
            for start in range(low, stop, SEGMENT)
        ]
        self._generator = torch.Generator(self.device)
        self._cache: OrderedDict[tuple[int, int], Tensor] = OrderedDict()
        self._cache_entries = cache_bytes // (4 * min(SEGMENT, max(size, 1)))

    def draw(self, seed: int, segment: int) -> Tensor:
        """z(seed) on one segment: (length,) float32. Read it, never write to it."""
        key = (seed, segment)
        found = self._cache.get(key)
        if found is not None:
            self._cache.move_to_end(key)
            return found
        self._generator.manual_seed(derive_seed("noise", seed, segment))
        bounds = self.segments[segment]
        drawn = self._drawn(bounds.stop - bounds.start)
        if self._cache_entries > 0:
            self._cache[key] = drawn
            while len(self._cache) > self._cache_entries:
                self._cache.popitem(last=False)
        return drawn

    def _drawn(self, length: int) -> Tensor:
        if self.distribution == "gaussian":
            return torch.randn(length, generator=self._generator, dtype=torch.float32, device=self.device)
        signs = torch.randint(0, 2, (length,), generator=self._generator, device=self.device, dtype=torch.int8)
        return signs.float().mul_(2).sub_(1)

    def forget(self) -> None:
        """Empties the cache: the next step has other seeds."""
        self._cache.clear()

    def fingerprint(self) -> str:
        """Hash of a sample of z(0): equal where seeds mean the same numbers."""
        sample = self.draw(0, 0)[:4096].cpu()
        return hashlib.sha256(sample.numpy().tobytes()).hexdigest()

    def zeros(self, segment: int) -> Tensor:
        """A fresh (length,) float32 vector of zeros for the segment."""
        bounds = self.segments[segment]
        return torch.zeros(bounds.stop - bounds.start, dtype=torch.float32, device=self.device)
