"""Products of 16-bit matrices, with and without a processor's instructions for them."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from steerzo_edge.model import matmul
from steerzo_edge.model.matmul import ROWS, add_product, linear

BF16 = torch.bfloat16
# Half of the distance between two neighbouring bf16 numbers, as a share of them; and what float32 adds to it.
ROUNDING = 2.0**-8 * 1.01


@pytest.fixture
def without_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matmul, "is_native", lambda dtype: dtype == torch.float32)


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))).to(BF16)


def is_rounded_once(found: Tensor, exact: Tensor) -> bool:
    assert found.dtype == BF16
    return bool(((found.double() - exact).abs() <= exact.abs() * ROUNDING + 2e-5).all())


@pytest.mark.usefixtures("without_instructions")
@pytest.mark.parametrize("rows", [1, 3, 4, 37, ROWS, ROWS + 5])
@pytest.mark.parametrize("with_bias", [True, False])
def test_a_product_is_rounded_once(rows: int, with_bias: bool) -> None:
    x, weight, bias = drawn(1, rows, 96), drawn(64, 96), drawn(64) if with_bias else None
    exact = nn.functional.linear(x.double(), weight.double(), None if bias is None else bias.double())
    assert is_rounded_once(linear(x, weight, bias), exact)


@pytest.mark.usefixtures("without_instructions")
@pytest.mark.parametrize("depth", [64, 576, 1536])
def test_a_row_s_bits_do_not_depend_on_the_others(depth: int) -> None:
    x, weight = drawn(ROWS + 70, depth), drawn(192, depth).float()
    whole = linear(x, weight)
    for rows in (*range(1, 34), 63, 128, 257, ROWS):
        assert torch.equal(linear(x[:rows], weight), whole[:rows]), rows
        assert torch.equal(linear(x[5 : 5 + rows], weight), whole[5 : 5 + rows]), rows


@pytest.mark.usefixtures("without_instructions")
@pytest.mark.parametrize("shape", [(1, 5), (3, 7), (2, ROWS + 9), (9,)])
def test_a_product_is_added(shape: tuple[int, ...]) -> None:
    out, x, y = drawn(*shape, 32), drawn(*shape, 4), drawn(*shape[:-1], 4, 32)
    exact = out.double() + 0.5 * x.double() @ y.double()
    changed = out.clone()
    with torch.no_grad():
        found = add_product(changed, x, y, 0.5)
    assert is_rounded_once(found, exact)
    assert torch.equal(changed, found)


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("batched", [True, False])
def test_gradients_pass_through(monkeypatch: pytest.MonkeyPatch, native: bool, batched: bool) -> None:
    monkeypatch.setattr(matmul, "is_native", lambda dtype: native or dtype == torch.float32)
    shape = (2,) if batched else ()
    x, weight, y = (part.requires_grad_() for part in (drawn(*shape, 6, 8), drawn(4, 8), drawn(*shape, 4, 8)))

    def result(multiply: Callable[..., Tensor], add: Callable[..., Tensor], *given: Tensor) -> Tensor:
        x, weight, y = given
        return add(x, multiply(x, weight), y, 2.0).square().sum()

    found = torch.autograd.grad(result(linear, add_product, x, weight, y), (x, weight, y))
    exact = [part.detach().double().requires_grad_() for part in (x, weight, y)]
    expected = torch.autograd.grad(
        result(nn.functional.linear, lambda out, a, b, scale: out + scale * a @ b, *exact), exact
    )
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=0.05, atol=0.05 * float(other.abs().max()))


def test_native_types_keep_torch_s_own_product() -> None:
    x, weight = drawn(5, 16).float(), drawn(8, 16).float()
    assert torch.equal(linear(x, weight), nn.functional.linear(x, weight))
    assert torch.equal(matmul.matmul(x, weight.T), x @ weight.T)
