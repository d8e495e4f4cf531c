"""Attention over packed rows, for every family that lets its attention function be chosen.

The rest of a layer (norms, products, activations) works on tokens and does not care where rows begin. Here the
packed tokens are laid out row by row, attended to, and packed again; padding exists for this moment only.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PretrainedConfig

from steerzo_edge.data.packing import Packed

NAME = "steerzo-packed"
SCORE_BYTES = 4 << 20
_layout: ContextVar[Packed] = ContextVar("layout")


@contextmanager
def packed_attention(config: PretrainedConfig, packed: Packed) -> Iterator[None]:
    """Inside the block, models with this config attend within the rows of a packed batch.

    Args:
        config: The model's; its choice of attention is put back afterwards.
        packed: The layout of the tokens that go through the model.
    """
    before, token = config._attn_implementation, _layout.set(packed)
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = before
        _layout.reset(token)


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
    """What `transformers` calls: query (K, H, S, d), key and value (K, H / g, S, d) to (K, S, H, d)."""
    packed = _layout.get()
    q, k, v = (_laid_out(part, packed) for part in (query, key, value))  # (K * N, heads, T, d)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if query.device.type == "cpu" or softcap is not None:
        out = _plain(q, k, v, _mask(packed, sliding_window), scale, softcap)
    else:
        out = _fused(q, k, v, _mask(packed, sliding_window), scale)
    out = out.transpose(1, 2)  # (K * N, T, H, d)
    flat = out.reshape(len(query), -1, *out.shape[2:])  # (K, N * T, H, d)
    return (flat if packed.is_even else flat.index_select(1, packed.scatter)), None


def _laid_out(part: Tensor, packed: Packed) -> Tensor:
    """(K, heads, S, d) to (K * N, heads, T, d)."""
    by_token = part.transpose(1, 2)  # (K, S, heads, d)
    if not packed.is_even:
        by_token = by_token.index_select(1, packed.gather)
    return by_token.reshape(-1, packed.width, *by_token.shape[2:]).transpose(1, 2)


def _mask(packed: Packed, window: int | None) -> Tensor | None:
    """(N or 1, 1, T, T) bool, or None where plain causal attention is meant."""
    mask = packed.mask
    if window is None or packed.width <= window:
        return mask
    if mask is None:
        places = torch.arange(packed.width, device=packed.input_ids.device)
        return ((places.unsqueeze(1) - places < window) & (places.unsqueeze(1) >= places))[None, None]
    # Where rows fork, how far back a token looks goes by positions: the stem is near to every branch.
    positions = packed.positions[0][packed.gather].view(-1, packed.width)
    return mask & (positions[:, None, :, None] - positions[:, None, None, :] < window)


def _fused(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """torch's own kernels, which are the quickest on CUDA."""
    if mask is not None and len(mask) > 1:
        mask = mask.repeat(len(q) // len(mask), 1, 1, 1)
    return nn.functional.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=mask is None, scale=scale, enable_gqa=q.shape[1] != k.shape[1]
    )


def _plain(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float, cap: float | None) -> Tensor:
    """Product, softmax in float32, product; in chunks of rows whose scores stay in the cache.

    torch's fused CPU kernel takes 2 to 3 times as long for rows of up to 500 tokens (two cores, bf16), and none
    knows soft-capped scores (Gemma 2).
    """
    rows, heads, width, depth = q.shape
    if k.shape[1] != heads:
        k, v = (part.repeat_interleave(heads // part.shape[1], 1) for part in (k, v))
    hidden = _additive(mask, width, q)
    out = torch.empty(rows, width, heads, depth, dtype=q.dtype, device=q.device).transpose(1, 2)
    step = max(1, SCORE_BYTES // (4 * heads * width * width))
    for start in range(0, rows, step):
        part = slice(start, start + step)
        scores = (q[part] @ k[part].transpose(2, 3)).float().mul_(scale)  # (n, H, T, T)
        if cap is not None:
            scores = torch.tanh(scores / cap) * cap
        scores += hidden if len(hidden) == 1 else hidden[torch.arange(rows)[part] % len(hidden)]
        out[part] = scores.softmax(-1).to(q.dtype) @ v[part]
    return out


def _additive(mask: Tensor | None, width: int, like: Tensor) -> Tensor:
    """(N or 1, 1, T, T) float32: 0 where a token may look, -inf elsewhere."""
    if mask is None:
        mask = torch.ones(1, 1, width, width, dtype=torch.bool, device=like.device).tril()
    return torch.zeros(mask.shape, device=like.device).masked_fill_(~mask, -torch.inf)


AttentionInterface.register(NAME, _attend)
