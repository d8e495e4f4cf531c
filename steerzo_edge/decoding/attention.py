"""Attention of rows that have a past, each its own: what the batch's products share ends here.

Every row is attended to by itself. That is a call for each row and layer (some 20 us each), and buys that rows of
any lengths need no padding, no mask and no copy, and that a row's result does not depend on the others' lengths:
with padding it would, for a sum over more terms is rounded in another order.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PretrainedConfig

from steerzo_edge.decoding.cache import RowCache

NAME = "steerzo-rows"


class _Forward:
    """The rows of one forward, and which layer comes next."""

    def __init__(self, caches: Sequence[RowCache]) -> None:
        self.caches = caches
        self.layer = 0


_forward: ContextVar[_Forward] = ContextVar("forward")


@contextmanager
def row_attention(config: PretrainedConfig, caches: Sequence[RowCache], tokens: int) -> Iterator[None]:
    """Inside the block, one forward of a model with this config goes on with these rows.

    Args:
        config: The model's; its choice of attention is put back afterwards.
        caches: One for each row; they grow.
        tokens: q, how many new tokens every row has.
    """
    before, token = config._attn_implementation, _forward.set(_Forward(caches))
    config._attn_implementation = NAME
    try:
        yield
        for cache in caches:
            cache.length += tokens
    finally:
        config._attn_implementation = before
        _forward.reset(token)


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
    """What `transformers` calls: query (n, H, q, d), key and value (n, Hkv, q, d) to (n, q, H, d)."""
    forward = _forward.get()
    layer, forward.layer = forward.layer, forward.layer + 1
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    parts = []
    for row, cache in enumerate(forward.caches):
        k, v = cache.extend(layer, key[row], value[row])
        seen = k.shape[1]
        if query.shape[2] == 1:
            first = 0 if sliding_window is None else max(0, seen - sliding_window)
            # Query heads that share a key head are its queries: there is no order among them.
            q = query[row].view(k.shape[0], -1, query.shape[-1])
            out = _products(q, k[:, first:], v[:, first:], None, scale, softcap)
            parts.append(out.reshape(1, 1, -1, v.shape[-1]))
        else:
            mask = _mask(query.shape[2], seen, sliding_window, query.device)
            groups = query.shape[1] // k.shape[0]
            k, v = k.repeat_interleave(groups, 0), v.repeat_interleave(groups, 0)
            parts.append(_products(query[row], k, v, mask, scale, softcap).transpose(0, 1)[None])
    return (parts[0] if len(parts) == 1 else torch.cat(parts)), None


def _products(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float, cap: float | None) -> Tensor:
    """(H, q, d), (H, s, d), (H, s, d) to (H, q, d)."""
    if cap is None:
        found = nn.functional.scaled_dot_product_attention(q[None], k[None], v[None], attn_mask=mask, scale=scale)
        return found[0]
    scores = torch.tanh((q @ k.transpose(1, 2)).float().mul_(scale / cap)).mul_(cap)
    if mask is not None:
        scores = scores.masked_fill_(~mask, -torch.inf)
    return scores.softmax(-1).to(v.dtype) @ v


def _mask(tokens: int, seen: int, window: int | None, device: torch.device) -> Tensor:
    """(q, s) bool: which of s tokens each of the last q may look at."""
    asking = torch.arange(seen - tokens, seen, device=device)[:, None]
    places = torch.arange(seen, device=device)
    visible = places <= asking
    return visible if window is None else visible & (asking - places < window)


AttentionInterface.register(NAME, _attend)
