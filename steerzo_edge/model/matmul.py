"""Products of 16-bit matrices, in float32 on processors that have no instructions for them.

Most laptops' processors multiply bf16 numbers one by one: torch was measured at 3 GFLOP/s in bf16 and at 25 to 36
in float32 (one core of a processor with AVX2, 512 x 576 times 576 x 1536). There both factors are expanded to
float32, a block of rows at a time, and the result is rounded to 16 bits once. Whether a processor has the
instructions is what torch's library of kernels (oneDNN) says: those with AVX512 on x86-64, and their like on ARM.

In float32, a row's bits do not depend on the other rows of the product, if there are always a multiple of 4: the
library (MKL) computes the rest of a division by 4 in another way. So rows of zeros are appended. A test
(tests/unit/test_matmul.py) looks at this on the machine where it runs.
"""

from functools import cache
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_SIXTEEN_BITS: Final = (torch.bfloat16, torch.float16)
_MULTIPLE: Final = 4
ROWS: Final = 512  # that are in float32 at the same time


@cache
def is_native(dtype: torch.dtype) -> bool:
    """Whether this machine's processor has instructions for products in a type.

    Args:
        dtype: Of both factors.
    """
    asks = {torch.bfloat16: "_is_mkldnn_bf16_supported", torch.float16: "_is_mkldnn_fp16_supported"}
    supported = getattr(torch.ops.mkldnn, asks[dtype], None) if dtype in asks else None
    return supported is None or bool(supported())


def product_dtype(x: Tensor) -> torch.dtype:
    """The type in which products with a tensor are computed: its own, or float32 where that is much faster."""
    if x.device.type != "cpu" or x.dtype not in _SIXTEEN_BITS or is_native(x.dtype):
        return x.dtype
    return torch.float32


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + bias, in the type of x.

    Args:
        x: (..., D).
        weight: (O, D); best in `product_dtype(x)`.
        bias: (O,) or None, in any type.
    """
    kind = product_dtype(x)
    if kind != x.dtype and torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
        found: Tensor = _Linear.apply(x, weight, bias)  # type: ignore[no-untyped-call]
        return found
    weight, bias = weight.to(kind), None if bias is None else bias.to(kind)
    if kind == x.dtype:
        return nn.functional.linear(x, weight, bias)
    rows = x.reshape(-1, x.shape[-1])
    out = torch.empty(len(rows), len(weight), dtype=x.dtype)
    for part, found in zip(rows.split(ROWS), out.split(ROWS), strict=True):
        found.copy_(nn.functional.linear(_filled_up(part, kind), weight, bias)[: len(part)])
    return out.view(*x.shape[:-1], len(weight))


def goes_by_row(x: Tensor) -> bool:
    """Whether generation should multiply with `linear_by_row`: there are no instructions, and a row has one token.

    Args:
        x: (..., S, D), S tokens of each row.
    """
    return product_dtype(x) != x.dtype and x.shape[-2] == 1


def linear_by_row(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + bias for a few rows, each by a product of its own, so that its bits do not depend on the others.

    torch multiplies a single row in 16 bits several times as fast as four, where there are no instructions: what is
    measured there is 9 GFLOP/s against 3.

    Args:
        x: (n, ..., D), with one row of D numbers for each of n.
        weight: (O, D), in the type of x.
        bias: (O,) or None, in any type.
    """
    bias = None if bias is None else bias.to(x.dtype)
    if len(x) == 1:
        return nn.functional.linear(x, weight, bias)
    return torch.cat([nn.functional.linear(row, weight, bias) for row in x.split(1)])


def matmul(x: Tensor, y: Tensor) -> Tensor:
    """x y of matrices or batches of them, in the type of x; for small ones, which are expanded as a whole."""
    kind = product_dtype(x)
    if kind == x.dtype:
        return x @ y
    return (_filled_up(x, kind) @ y.to(kind))[..., : x.shape[-2], :].to(x.dtype)


def add_product(out: Tensor, x: Tensor, y: Tensor, scale: float) -> Tensor:
    """out + scale x y, of matrices or of batches of them; `out` itself is changed, unless autograd needs it.

    Args:
        out: (G, n, O), or (n, O).
        x: (G, n, R), or (n, R).
        y: (G, R, O), or (R, O).
        scale: Of the product.
    """
    kind, batched = product_dtype(x), out.dim() == 3
    if torch.is_grad_enabled():  # autograd would copy what changes in place
        if kind == x.dtype:
            return (torch.baddbmm if batched else torch.addmm)(out, x, y, alpha=scale)
        added: Tensor = _AddProduct.apply(out, x, y, scale)  # type: ignore[no-untyped-call]
        return added
    if kind == x.dtype:
        return (out.baddbmm_ if batched else out.addmm_)(x, y, alpha=scale)
    y = y.to(kind)
    if not batched:
        out, x, y = out[None], x[None], y[None]
    step = max(1, ROWS // out.shape[1])
    for places, lows, highs in zip(out.split(step), x.split(step), y.split(step), strict=True):
        for place, low in zip(places.split(ROWS, 1), lows.split(ROWS, 1), strict=True):
            place.add_((_filled_up(low, kind) @ highs)[..., : low.shape[-2], :], alpha=scale)
    return out if batched else out[0]


class _Linear(torch.autograd.Function):
    """`linear` in float32 for autograd: keeps what a gradient needs in its own type; the same bits."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, weight)
        return linear(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        x, weight = ctx.saved_tensors
        of_x = linear(gradient, weight.T) if ctx.needs_input_grad[0] else None
        of_weight = None
        if ctx.needs_input_grad[1]:
            of_weight = (gradient.flatten(0, -2).float().T @ x.flatten(0, -2).float()).to(weight.dtype)
        return of_x, of_weight, None


class _AddProduct(torch.autograd.Function):
    """`add_product` in float32 for autograd, likewise; `out` is not changed."""

    @staticmethod
    def forward(ctx: Any, out: Tensor, x: Tensor, y: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(x if ctx.needs_input_grad[2] else None, y)
        ctx.scale = scale
        return add_product(out.clone(), x, y, scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        x, y = ctx.saved_tensors
        scaled = gradient.float().mul(ctx.scale)
        of_x = (scaled @ y.float().mT).to(x.dtype) if ctx.needs_input_grad[1] else None
        of_y = (x.float().mT @ scaled).to(y.dtype) if ctx.needs_input_grad[2] else None
        return gradient, of_x, of_y, None


def _filled_up(rows: Tensor, dtype: torch.dtype) -> Tensor:
    """(..., n, D) in another type, with rows of zeros up to a multiple of 4."""
    missing = -rows.shape[-2] % _MULTIPLE
    return nn.functional.pad(rows.to(dtype), (0, 0, 0, missing)) if missing else rows.to(dtype)
