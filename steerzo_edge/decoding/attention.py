"""Attention of new tokens to cached ones: of chunks of prompts, or of one new token for each row of a pool.

Each prompt's chunk goes through torch's attention kernel in a call of its own. The rows of a pool are computed
together, as two batched products over blocks in which every row begins at the first column; `cache_pool.py` says
why a row's numbers then do not depend on the other rows. A call of the kernel for each row took 2 of the 11 ms of a
step with 8 rows of the bundled base.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PretrainedConfig

from steerzo_edge.decoding.cache import Chunk
from steerzo_edge.decoding.cache_pool import CachePool
from steerzo_edge.model.attention import attending
from steerzo_edge.model.matmul import product_dtype

NAME = "steerzo-rows"


class _Forward:
    """The state of one forward: the caches, and the layer that comes next."""

    def __init__(self, past: Sequence[Chunk] | CachePool) -> None:
        self.past = past
        self.layer = 0
        self._masks: dict[tuple[int, int, int | None], Tensor] = {}

    def mask(self, tokens: int, seen: int, window: int | None, device: torch.device) -> Tensor:
        """The mask of `_mask`; it is computed once for all layers with the same window."""
        key = tokens, seen, window
        if key not in self._masks:
            self._masks[key] = _mask(*key, device)
        return self._masks[key]


_forward: ContextVar[_Forward] = ContextVar("forward")


@contextmanager
def attention_to(past: Sequence[Chunk] | CachePool, config: PretrainedConfig) -> Iterator[None]:
    """Lets one forward of a model inside the block attend to these caches, and extends them.

    Args:
        past: Chunks of prompts, concatenated into one row of tokens, or rows with one new token each.
        config: The model's; its attention implementation is restored afterwards.
    """
    with attending(config, NAME, _forward, _Forward(past)):
        yield


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
    """The attention that `transformers` calls: query (n, H, q, d), key and value (n, Hkv, q, d) to (n, q, H, d)."""
    forward = _forward.get()
    layer, forward.layer = forward.layer, forward.layer + 1
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if isinstance(forward.past, CachePool):
        k, v = forward.past.extend(layer, key[:, :, 0], value[:, :, 0])
        out = attend_rows(query[:, :, 0], k, v, forward.past.hidden(sliding_window), scale, softcap)
        return out.view(len(out), 1, -1, v.shape[-1]), None
    found = []
    lengths = [len(chunk.tokens) for chunk in forward.past]
    parts = zip(forward.past, *(part[0].split_with_sizes(lengths, 1) for part in (query, key, value)), strict=True)
    for chunk, q, new_k, new_v in parts:
        k, v = chunk.cache.extend(layer, new_k, new_v)
        groups = q.shape[0] // k.shape[0]
        if groups > 1:
            k, v = k.repeat_interleave(groups, 0), v.repeat_interleave(groups, 0)
        mask = forward.mask(q.shape[1], k.shape[1], sliding_window, q.device)
        found.append(_of_chunk(q, k, v, mask, scale, softcap).transpose(0, 1))
    return torch.cat(found)[None], None


def attend_rows(q: Tensor, k: Tensor, v: Tensor, hidden: Tensor, scale: float, cap: float | None = None) -> Tensor:
    """Attention of one new token of each of n rows.

    On a CPU it is computed in float32: the last bit of a bf16 product there was seen to depend on the other rows.

    Args:
        q: (n, H, d).
        k: (n, Hkv, W, d).
        v: (n, Hkv, W, d); its d may differ.
        hidden: (n, 1, 1, W) bool, the columns that are not attended to.
        scale: Of the scores.
        cap: Bound of the scores, which are bent towards it; None for no bound.

    Returns:
        (n, 1, H d).
    """
    count, shared, width, depth = k.shape
    # Query heads that share a key head become its queries: attention does not depend on the order of queries.
    q = q.reshape(count, shared, -1, depth)
    if q.device.type != "cpu" and cap is None:
        found = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=~hidden, scale=scale)
        return found.reshape(count, 1, -1)
    scores = torch.bmm(q.flatten(0, 1).float(), k.flatten(0, 1).transpose(1, 2).float())
    scores = scores.mul_(scale) if cap is None else torch.tanh(scores.mul_(scale / cap)).mul_(cap)
    weights = scores.view(count, shared, -1, width).masked_fill_(hidden, -torch.inf).softmax(-1)
    return torch.bmm(weights.flatten(0, 1), v.flatten(0, 1).float()).to(v.dtype).view(count, 1, -1)


def _of_chunk(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float, cap: float | None) -> Tensor:
    """(H, q, d), (H, s, d), (H, s, d) to (H, q, d)."""
    given, kind = v.dtype, product_dtype(v)
    q, k, v = (part.to(kind) for part in (q, k, v))
    if cap is None:
        found = nn.functional.scaled_dot_product_attention(q[None], k[None], v[None], attn_mask=mask, scale=scale)
        return found[0].to(given)
    scores = torch.tanh((q @ k.transpose(1, 2)).float().mul_(scale / cap)).mul_(cap)
    if mask is not None:
        scores = scores.masked_fill_(~mask, -torch.inf)
    return (scores.softmax(-1).to(kind) @ v).to(given)


def _mask(tokens: int, seen: int, window: int | None, device: torch.device) -> Tensor:
    """(q, s) bool: which of s tokens each of the last q may attend to."""
    asking = torch.arange(seen - tokens, seen, device=device)[:, None]
    places = torch.arange(seen, device=device)
    visible = places <= asking
    return visible if window is None else visible & (asking - places < window)


AttentionInterface.register(NAME, _attend)
