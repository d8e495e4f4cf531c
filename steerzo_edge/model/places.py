"""Picks the hidden states of some tokens, with a gradient whose sums have a fixed order.

The first tokens of all options of a row are predicted from the same place, so gradients are added up there. torch's
own indexing adds float32 numbers with several threads in whatever order they come.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class _Picked(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(places)
        ctx.shape = hidden.shape
        return hidden[:, places]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        (places,) = ctx.saved_tensors
        whole = gradient.new_zeros(ctx.shape)
        if gradient.device.type == "cpu":
            return whole.index_add_(1, places, gradient), None  # one after the other
        rows = torch.arange(len(gradient), device=gradient.device).unsqueeze(1)
        return whole.index_put_((rows, places.unsqueeze(0)), gradient, accumulate=True), None  # sorted first


def picked(hidden: Tensor, places: Tensor) -> Tensor:
    """(K, S, D) and (P,) int64 indices into S to (K, P, D)."""
    if not hidden.requires_grad:
        return hidden[:, places]
    found: Tensor = _Picked.apply(hidden, places)  # type: ignore[no-untyped-call]
    return found
