"""LoRAs of many rows on a CPU: each row has a few tokens, so the time to start a product decides.

Products are in float32: a bf16 product of one token with a rank-8 pair takes 5 times as long there, nearly all of
it to set up oneDNN (27 against 5 microseconds a layer of the bundled base, two cores), and its sum is rounded
twice.
"""

import torch
from torch import Tensor

from steerzo_edge.model.patches import Linear


class RowLoras:
    """base(x) + (x A^T) B^T, with a pair (A, B) for each row. See `Patch`.

    Args:
        a: (n, R, D).
        b: (n, O, R), multiplied by the scale.
    """

    def __init__(self, a: Tensor, b: Tensor) -> None:
        self._a, self._b = _transposed(a), _transposed(b)  # (n, D, R), (n, R, O)

    @property
    def groups(self) -> int:
        """One group a row."""
        return self._a.shape[0]

    def __call__(self, base: Linear, x: Tensor) -> Tensor:
        """(n, ..., D) to (n, ..., O)."""
        out = base(x)
        self.add(x, out)  # `out` is a fresh tensor
        return out

    def add(self, x: Tensor, out: Tensor) -> None:
        """Adds to the base's product; the sum is rounded once.

        Args:
            x: (n, ..., D).
            out: (n, ..., O), the base's product; changed in place.
        """
        low = torch.bmm(x.float().view(self.groups, -1, x.shape[-1]), self._a)
        out.add_(torch.bmm(low, self._b).view(out.shape))

    def write(self, x: Tensor, out: Tensor) -> None:
        """Writes what is added to the base's product, for one row.

        Args:
            x: (1, q, D) float32.
            out: (1, q, O) float32; overwritten.
        """
        torch.bmm(torch.bmm(x, self._a), self._b, out=out)


def _transposed(factor: Tensor) -> Tensor:
    return factor.transpose(1, 2).to(torch.float32, copy=True, memory_format=torch.contiguous_format)
