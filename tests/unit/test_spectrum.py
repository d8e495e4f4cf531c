"""Leading singular vectors against the whole decomposition, without large tensors on the way."""

import pytest
import torch
from torch import Tensor

from steerzo_edge.model import spectrum
from steerzo_edge.model.spectrum import leading
from tests.watching import outputs


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def decaying(rows: int, columns: int, ratio: float = 0.8) -> Tensor:
    """A matrix whose singular values are 1, ratio, ratio^2, ..."""
    both = min(rows, columns)
    left = torch.linalg.qr(torch.randn(rows, both, generator=seeded(1))).Q
    right = torch.linalg.qr(torch.randn(columns, both, generator=seeded(2))).Q
    found: Tensor = (left * ratio ** torch.arange(both)) @ right.T
    return found


def largest_sine(found: Tensor, expected: Tensor) -> float:
    """Of the angles between two spans of orthonormal rows: 0 if they are the same."""
    return float(torch.linalg.matrix_norm(found - found @ expected.T @ expected, 2))


@pytest.mark.parametrize("shape", [(200, 60), (60, 200), (64, 64), (12, 80)], ids=str)
@pytest.mark.parametrize("rank", [1, 4, 12])
def test_the_span_is_that_of_the_whole_decomposition(shape: tuple[int, int], rank: int) -> None:
    matrix = decaying(*shape)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    found = leading(matrix, rank, seeded(3))
    assert largest_sine(found.right, right[:rank]) < 1e-4
    assert largest_sine(found.left.T, left[:, :rank].T) < 1e-4
    torch.testing.assert_close(found.values, values[:rank], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.right @ found.right.T, torch.eye(rank), rtol=0, atol=1e-5)
    # What belongs together is together: left and right, not only their spans.
    torch.testing.assert_close(matrix @ found.right.T, found.left * found.values, rtol=0, atol=1e-5)
    # Negative control: another matrix of that kind has another span.
    other = torch.linalg.svd(matrix.roll(7, 1), full_matrices=False).Vh[:rank]
    assert largest_sine(found.right, other) > 0.5


def test_small_singular_vectors_beside_dominant_ones_are_found() -> None:
    matrix = decaying(120, 90, 0.9)
    matrix += 3e4 * torch.outer(torch.ones(120) / 120**0.5, torch.eye(90)[5])
    expected = torch.linalg.svd(matrix.double(), full_matrices=False).Vh[:4].float()
    # float32 knows 7 digits; the second value is 4.5 below the first.
    assert largest_sine(leading(matrix, 4, seeded(3)).right, expected) < 0.02


def test_fewer_rows_than_directions() -> None:
    matrix = torch.randn(3, 40, generator=seeded(4))
    found = leading(matrix, 8, seeded(3))
    assert found.left.shape == (3, 8)
    assert largest_sine(torch.linalg.qr(matrix.T).Q.T, found.right[:3]) < 1e-5
    torch.testing.assert_close(found.right @ found.right.T, torch.eye(8), rtol=0, atol=1e-5)


def test_the_same_bits_again_whatever_torch_drew_before() -> None:
    matrix = decaying(100, 50).bfloat16()
    first = leading(matrix, 6, seeded(3))
    torch.rand(17)
    state = torch.get_rng_state()
    second = leading(matrix, 6, seeded(3))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.right, second.right)
    assert torch.equal(first.left, second.left)


def test_chunks_change_nothing_but_roundings(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = decaying(100, 50)
    whole = leading(matrix, 5, seeded(3))
    monkeypatch.setattr(spectrum, "CHUNK", 350)
    torch.testing.assert_close(leading(matrix, 5, seeded(3)).right.abs(), whole.right.abs(), rtol=0, atol=1e-4)


def test_no_product_of_the_matrix_with_itself_and_no_float32_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spectrum, "CHUNK", 4096)
    matrix = decaying(1500, 512).bfloat16()
    with outputs() as seen:
        leading(matrix, 4, seeded(3))
    assert max(tensor.numel() for tensor in seen if tensor.dtype == torch.float32) <= 1500 * 20
