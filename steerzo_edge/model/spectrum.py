"""Leading singular vectors of a matrix of any shape or rank, by randomised subspace iteration.

Cost: 2 * `ITERATIONS` + 1 products of the matrix with R + `OVERSAMPLING` columns; half a second for 4096 x 4096 in
bf16 on one core.
Memory: those columns, and one chunk of the matrix in float32; never a product of the matrix with itself. Source:
Halko, Martinsson, Tropp, arXiv:0909.4061. (`torch.svd_lowrank` does the same, but draws from the global generator.)
"""

from dataclasses import dataclass

import torch
from torch import Tensor

OVERSAMPLING = 16
ITERATIONS = 8
CHUNK = 1 << 22


@dataclass(frozen=True, slots=True)
class Spectrum:
    """The R leading singular values of an (N, D) matrix with their vectors, largest first.

    Args:
        left: (N, R) float32; orthonormal columns, as far as the matrix has rank R.
        values: (R,) float32.
        right: (R, D) float32, orthonormal rows.
    """

    left: Tensor
    values: Tensor
    right: Tensor


def leading(matrix: Tensor, rank: int, generator: torch.Generator) -> Spectrum:
    """Computes the leading singular values and vectors.

    Args:
        matrix: (N, D) of any float type.
        rank: R, at most D; if the matrix has a lower rank, the last directions are arbitrary.
        generator: On the CPU; it draws the start of the iteration.

    Note:
        Vectors whose singular values are nearly equal may be mixed: only their common span converges. Each
        iteration multiplies the error by the square of the ratio of value number R + 17 to value number R.
    """
    count, depth = matrix.shape
    width = min(rank + OVERSAMPLING, depth)
    if count < width:  # rows of zeros change no vector, and give all factors below their full size
        matrix = torch.nn.functional.pad(matrix, (0, 0, 0, width - count))
    columns = torch.randn(depth, width, generator=generator, dtype=torch.float32).to(matrix.device)
    columns = torch.linalg.qr(columns).Q  # (D, w)
    for _ in range(ITERATIONS):
        # Orthonormal after each half: float32 cannot hold the squares of small values beside those of large ones.
        columns = torch.linalg.qr(_back(matrix, torch.linalg.qr(_through(matrix, columns)).Q)).Q
    left, values, mixing = torch.linalg.svd(_through(matrix, columns), full_matrices=False)
    return Spectrum(left[:count, :rank], values[:rank], mixing[:rank] @ columns.T)


def _through(matrix: Tensor, columns: Tensor) -> Tensor:
    return torch.cat([part.float() @ columns for part in _chunks(matrix)])  # (N, w)


def _back(matrix: Tensor, columns: Tensor) -> Tensor:
    found = columns.new_zeros(matrix.shape[1], columns.shape[1])  # (D, w)
    for part, own in zip(_chunks(matrix), torch.split(columns, _rows(matrix)), strict=True):
        found.addmm_(part.float().T, own)
    return found


def _chunks(matrix: Tensor) -> tuple[Tensor, ...]:
    return torch.split(matrix, _rows(matrix))


def _rows(matrix: Tensor) -> int:
    return max(1, CHUNK // matrix.shape[1])
