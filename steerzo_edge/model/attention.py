"""Attention over packed rows, for every family whose attention function can be chosen.

The rest of a layer (norms, products, activations) works on single tokens, wherever rows begin. Only attention needs
rows: the packed tokens are laid out row by row with padding, attended to, and packed again.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import product
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers import AttentionInterface, PretrainedConfig

from steerzo_edge.data.packing import Group, Packed
from steerzo_edge.model.attention_gradient import attention_gradient
from steerzo_edge.model.matmul import product_dtype

T = TypeVar("T")
NAME = "steerzo-packed"
SCORE_BYTES = 4 << 20
QUERIES = 256
_layout: ContextVar["_Layout"] = ContextVar("layout")


class _Layout:
    """A packed batch during one forward, and the indices that all its layers share."""

    def __init__(self, packed: Packed) -> None:
        self.packed = packed
        self._indices: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

    def by_head(self, number: int, heads: int) -> tuple[Tensor, Tensor]:
        """`Group.by_head` of a group."""
        if (number, heads) not in self._indices:
            self._indices[number, heads] = self.packed.groups[number].by_head(heads)
        return self._indices[number, heads]


@contextmanager
def packed_attention(config: PretrainedConfig, packed: Packed) -> Iterator[None]:
    """Inside the block, models with this config attend within the rows of a packed batch.

    Args:
        config: Of the model; its choice of attention is restored afterwards.
        packed: The layout of the tokens that go through the model.
    """
    with attending(config, NAME, _layout, _Layout(packed)):
        yield


@contextmanager
def attending(config: PretrainedConfig, name: str, variable: ContextVar[T], value: T) -> Iterator[None]:
    """Inside the block, models with this config use another attention function, which reads a context variable.

    Args:
        config: Of the model; its choice of attention is restored afterwards, and so is the variable.
        name: Of a registered attention function.
        variable: The variable that the function reads.
        value: Its value inside the block.
    """
    before, token = config._attn_implementation, variable.set(value)
    config._attn_implementation = name
    try:
        yield
    finally:
        config._attn_implementation = before
        variable.reset(token)


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """`transformers` calls this: query (K, H, S, d), key and value (K, H / g, S, d) to (K, S, H, d)."""
    layout = _layout.get()
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if torch.is_grad_enabled() and any(part.requires_grad for part in (query, key, value)):
        return _Attention.apply(query, key, value, layout, sliding_window, scale, softcap), None  # type: ignore[no-untyped-call]
    return _attended(query, key, value, layout, sliding_window, scale, softcap), None


def _attended(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: _Layout,
    window: int | None,
    scale: float,
    softcap: float | None,
) -> Tensor:
    """Queries (K, H, S, d), keys and values (K, H / g, S, d) to (K, S, H, d), group by group."""
    parts = []
    for number, group in enumerate(layout.packed.groups):
        q, k, v = (_laid_out(part, layout, number) for part in (query, key, value))  # (K * n, heads, W, d)
        mask = _mask(layout.packed, group, window)
        if query.device.type == "cpu" or softcap is not None:
            out = _plain(q, k, v, mask, scale, softcap)
        else:
            out = _fused(q, k, v, mask, scale)
        parts.append(_put_back(out, layout, number))
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


def _laid_out(part: Tensor, layout: _Layout, number: int) -> Tensor:
    """(K, H, S, d) to (K * n, H, W, d) of a group."""
    copies, heads, tokens, depth = part.shape
    there, _ = layout.by_head(number, heads)
    vectors = part.transpose(1, 2).reshape(copies, tokens * heads, depth)  # a view: the projection's layout
    width = layout.packed.groups[number].gather.shape[1]
    return vectors.index_select(1, there).view(-1, heads, width, depth)


def _put_back(out: Tensor, layout: _Layout, number: int) -> Tensor:
    """(K * n, H, W, d) of a group to (K, its tokens, H, d)."""
    rows, heads, _, depth = out.shape
    _, back = layout.by_head(number, heads)
    copies = rows // len(layout.packed.groups[number].gather)
    return out.reshape(copies, -1, depth).index_select(1, back).view(copies, -1, heads, depth)


def _mask(packed: Packed, group: Group, window: int | None) -> Tensor | None:
    """(n or 1, 1, W, W) bool, or None for plain causal attention."""
    width = group.gather.shape[1]
    if window is None or width <= window:
        return group.mask
    if group.mask is None:
        places = torch.arange(width, device=group.gather.device)
        return ((places.unsqueeze(1) - places < window) & (places.unsqueeze(1) >= places))[None, None]
    # In rows that fork, the window counts positions, not places: every branch follows directly on the stem.
    positions = packed.positions[0][group.gather]
    return group.mask & (positions[:, None, :, None] - positions[:, None, None, :] < window)


def _fused(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """torch's own kernels, the fastest ones on CUDA."""
    if mask is not None and len(mask) > 1:
        mask = mask.repeat(len(q) // len(mask), 1, 1, 1)
    return nn.functional.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=mask is None, scale=scale, enable_gqa=q.shape[1] != k.shape[1]
    )


def _plain(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float, cap: float | None) -> Tensor:
    """Product, softmax in float32, product; in chunks of rows and queries whose scores stay in the cache.

    torch's fused CPU kernel takes 2 to 3 times as long for rows of up to 500 tokens (two cores, bf16), and no fused
    kernel supports soft-capped scores (Gemma 2).
    """
    rows, heads, width, depth = q.shape
    shared = k.shape[1]
    q = q.view(rows, shared, -1, width, depth)  # (rows, H / g, g, W, d): query heads that share a key head
    hidden = _additive(mask, width, q).unsqueeze(2)  # (n or 1, 1, 1, W, W)
    out, kind = torch.empty_like(q), product_dtype(q)
    step = _rows_of_a_chunk(heads, width)
    for start, first in product(range(0, rows, step), range(0, width, QUERIES)):
        part, asking = slice(start, start + step), slice(first, first + QUERIES)
        end = min(asking.stop, width)  # causal: no later keys
        asked = q[part, :, :, asking].flatten(2, 3).to(kind)
        scores = (asked @ k[part, :, :end].to(kind).transpose(2, 3)).float()  # (n, H / g, g * w, end)
        scores = scores.view(-1, shared, heads // shared, end - first, end)
        bias = hidden[..., asking, :end]
        bias = bias if len(bias) == 1 else bias[torch.arange(rows)[part] % len(bias)]
        if cap is None:
            scores = torch.add(bias, scores, alpha=scale)
        else:
            scores = torch.tanh(scores.mul_(scale / cap)).mul_(cap).add_(bias)
        found = scores.softmax(-1).to(kind).flatten(2, 3) @ v[part, :, :end].to(kind)
        out[part, :, :, asking] = found.view(len(found), shared, -1, end - first, depth)
    return out.view(rows, heads, width, depth)


def _rows_of_a_chunk(heads: int, width: int) -> int:
    return max(1, SCORE_BYTES // (4 * heads * min(width, QUERIES) * width))


class _Attention(torch.autograd.Function):
    """`_attended` with a gradient that keeps packed queries, keys and values only.

    The gradient is computed by `attention_gradient` on every device: its sums have a fixed order.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        layout: _Layout,
        window: int | None,
        scale: float,
        softcap: float | None,
    ) -> Tensor:
        ctx.save_for_backward(query, key, value)
        ctx.settings = layout, window, scale, softcap
        return _attended(query, key, value, layout, window, scale, softcap)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        layout, window, scale, softcap = ctx.settings
        gradient = gradients[0].transpose(1, 2)  # (K, H, S, d)
        parts = []
        for number, group in enumerate(layout.packed.groups):
            q, k, v, given = (_laid_out(part, layout, number) for part in (*ctx.saved_tensors, gradient))
            rows, heads, width, _ = q.shape
            found = attention_gradient(
                q,
                k,
                v,
                given * _filled(group, given).repeat(rows // len(group.gather), 1, 1, 1),
                _additive(_mask(layout.packed, group, window), width, q),
                scale=scale,
                cap=softcap,
                row_step=_rows_of_a_chunk(heads, width),
                query_step=QUERIES,
            )
            parts.append([_put_back(part, layout, number) for part in found])
        whole = (each[0] if len(each) == 1 else torch.cat(each, 1) for each in zip(*parts, strict=True))
        return *(part.transpose(1, 2) for part in whole), None, None, None, None


def _filled(group: Group, like: Tensor) -> Tensor:
    """(n, 1, W, 1): 1 where a token is, 0 where padding is."""
    places = torch.zeros(group.gather.numel(), dtype=like.dtype, device=like.device)
    places[group.scatter] = 1
    return places.view(len(group.gather), 1, -1, 1)


def _additive(mask: Tensor | None, width: int, like: Tensor) -> Tensor:
    """(n or 1, 1, W, W) float32: 0 where a token attends to another, -inf elsewhere."""
    if mask is None:
        mask = torch.ones(1, 1, width, width, dtype=torch.bool, device=like.device).tril()
    return torch.zeros(mask.shape, dtype=torch.float32, device=like.device).masked_fill_(~mask, -torch.inf)


AttentionInterface.register(NAME, _attend)
