"""Expanded copies of quantized weights, for generation on processors without a kernel that multiplies codes.

There, expanding the weights takes several times as long as multiplying one token by them: 1.1 ms against 0.2 for
a layer of 576 x 1536 in nf4, on one core with AVX2. So generation keeps layers in 16 bits, as many as fit a bound;
the others are expanded for every token.
"""

import os
import weakref
from typing import Final

from torch import Tensor

LIMIT: Final = "STEERZO_EXPANDED_COPY_BYTES"
DEFAULT_BYTES: Final = 256 << 20


class ExpandedCopies:
    """Bytes that the copies of this process take together.

    Args:
        limit: Most bytes.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.taken = 0

    def keep(self, weight: Tensor) -> "ExpandedCopy | None":
        """A copy that counts until it is freed; None if it does not fit any more.

        Args:
            weight: (O, D), expanded.
        """
        if self.taken + weight.nbytes > self.limit:
            return None
        self.taken += weight.nbytes
        return ExpandedCopy(weight, self)

    def give_back(self, size: int) -> None:
        """Called when a copy of `size` bytes was freed."""
        self.taken -= size


class ExpandedCopy:
    """An expanded weight that is counted.

    Args:
        weight: (O, D).
        copies: Which count it until this object is gone.
    """

    def __init__(self, weight: Tensor, copies: ExpandedCopies) -> None:
        self.weight = weight
        weakref.finalize(self, copies.give_back, weight.nbytes)


def _limit() -> int:
    given = os.environ.get(LIMIT, "")
    return int(given) if given.isdigit() else DEFAULT_BYTES


COPIES: Final = ExpandedCopies(_limit())
