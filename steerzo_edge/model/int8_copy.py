"""A copy of a matrix in 8-bit codes, for fast approximate products on a CPU, with a bound on their error.

Each row has a scale of its own. oneDNN's int8 kernel multiplies integers by integers and is exact. A hidden state
is the sum of two rows of integers, a coarse one and what that leaves, with 15 bits in all, so only the codes of the
matrix make an error that matters. For one token and a matrix of 65,536 x 640 the product took 4.0 ms on one core,
the one with the 16-bit matrix 9.6.
"""

from typing import Final

import torch
from torch import Tensor

BLOCK: Final = 16384
LARGEST: Final = 127
_ZERO: Final = 128
_FINE: Final = 2 * LARGEST
_FLOAT32_ROUNDING: Final = 2.0**-24
# Of the kernel's result: scale, zero, type, and no operation after the product.
_FLOAT32_OUTPUT: Final[tuple[object, ...]] = (1.0, 0, torch.float32, "none", [], "")


class Int8Copy:
    """Approximate products with a matrix.

    Args:
        matrix: (V, D), any float type, on a CPU that `is_exact`.

    Attributes:
        errors: (V,) float32: the most by which a product with a state of length 1 can be wrong.
    """

    def __init__(self, matrix: Tensor) -> None:
        self.errors = torch.empty(len(matrix), dtype=torch.float32)
        self._width = matrix.shape[1]
        self._parts: list[_Part] = []
        for start in range(0, len(matrix), BLOCK):
            rows = matrix[start : start + BLOCK].float()
            codes, scales = quantized(rows)
            self._parts.append(_Part(codes, scales))
            lengths = rows.norm(dim=1)
            errors = rows.sub_(codes.float().mul_(scales.unsqueeze(1))).norm(dim=1)
            self.errors[start : start + BLOCK] = errors.mul_(1 + 1e-3).add_(lengths, alpha=self._rounding)

    def __call__(self, states: Tensor) -> Tensor:
        """(n, D), any float type, to (n, V) float32."""
        states = states.float()
        count = len(states)
        steps = states.abs().amax(1, keepdim=True).div_(LARGEST).clamp_(min=1e-30)  # (n, 1)
        exact = states / steps
        coarse = exact.round()
        fine = exact.sub_(coarse).mul_(_FINE).round_()
        # With a third row oneDNN chooses a kernel that is twice as fast for a single state.
        rows = torch.cat((coarse, fine, states.new_zeros(1, self._width))).add_(_ZERO).to(torch.uint8)
        found = torch.empty(count, len(self.errors), dtype=torch.float32)
        for part, room in zip(self._parts, found.split(BLOCK, 1), strict=True):
            both = part(rows)
            torch.add(both[:count], both[count : 2 * count], alpha=1 / _FINE, out=room)
        return found.mul_(steps)

    @property
    def bytes(self) -> int:
        """Bytes that it takes: codes, a scale and a zero for each row, and its error."""
        return len(self.errors) * (self._width + 16)

    @property
    def _rounding(self) -> float:
        """Of a state of length 1, in units of a row's length: the fine row's rounding, and that of float32 numbers.

        The fine row is wrong by at most half a step in every column, and its steps are at most 1 / 127 / 254 long.
        """
        fine: float = 0.51 * self._width**0.5 / (LARGEST * _FINE)
        return 1.01 * fine + 8 * self._width * _FLOAT32_ROUNDING


class _Part:
    """Some rows, in the order that oneDNN's kernel reads.

    Args:
        codes: (N, D) int8.
        scales: (N,) float32.
    """

    def __init__(self, codes: Tensor, scales: Tensor) -> None:
        self._weight = torch.ops.onednn.qlinear_prepack.default(codes, None)
        self._scales = scales
        self._zeros = torch.zeros(len(scales), dtype=torch.int64)

    def __call__(self, rows: Tensor) -> Tensor:
        """(M, D) uint8, 128 more than the numbers that they mean, to (M, N) float32."""
        found: Tensor = torch.ops.onednn.qlinear_pointwise.default(
            rows, 1.0, _ZERO, self._weight, self._scales, self._zeros, None, *_FLOAT32_OUTPUT
        )
        return found


def quantized(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Codes (N, D) int8 and scales (N,) float32 of (N, D) float32 rows."""
    scales = (rows.abs().amax(1) / LARGEST).clamp_(min=1e-30)
    return (rows / scales.unsqueeze(1)).round_().to(torch.int8), scales


def is_exact() -> bool:
    """Whether this machine has the int8 kernel and sums the largest products exactly; without VNNI it may not."""
    if not torch.backends.mkldnn.is_available():
        return False
    weight = torch.full((32, 64), float(LARGEST), dtype=torch.float32)
    rows = torch.full((3, 64), _ZERO + LARGEST, dtype=torch.uint8)
    return bool((_Part(*quantized(weight))(rows) == 64 * LARGEST * LARGEST).all())
