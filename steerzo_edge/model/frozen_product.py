"""The product with a frozen weight as an operation of autograd that keeps nothing.

forward     y = x W^T + bias     the layer's own product
backward    dx = dy W            W is expanded again from its codes, and freed
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from steerzo_edge.model.matmul import linear, product_dtype
from steerzo_edge.model.weights.storage import FrozenLinear


class FrozenProduct(torch.autograd.Function):
    """Applied to x, (..., D), and a frozen layer; gives (..., O)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, frozen: FrozenLinear) -> Tensor:
        """See `FrozenLinear.batch_matmul`."""
        ctx.frozen = frozen
        return frozen.batch_matmul(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """The gradient of x, in its type; int8's rounding of activations on CUDA counts as the identity."""
        (gradient,) = gradients
        kind = product_dtype(gradient)
        weight = ctx.frozen.weight(kind)
        return (gradient @ weight if kind == gradient.dtype else linear(gradient, weight.T)), None


def frozen_product(frozen: FrozenLinear, x: Tensor) -> Tensor:
    """x W^T + bias: (..., D) to (..., O), differentiable with respect to x."""
    found: Tensor = FrozenProduct.apply(x, frozen)  # type: ignore[no-untyped-call]
    return found
