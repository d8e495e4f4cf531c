"""Decoder layers for one new token of each row, called directly.

For a single token nearly all of the time goes into calls. `transformers` computes a layer in about 80 operations of
torch, inside 15 modules of its own; here the same layer takes about 30: layers with the same input are multiplied
together, queries and keys are rotated together, and a norm is one operation. Each number is the result of the same
operations in the same order, so the bits are the same. `row_forward.py` compares them with those of `transformers`
before it uses this.

It knows the layers that most families share: a norm, attention with rotary positions, a norm, a gated MLP; with
norms of queries and keys (Qwen 3, Gemma 3) and of what is added to the stream (Gemma 3).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from steerzo_edge.decoding.attention import attend_rows
from steerzo_edge.decoding.cache_pool import CachePool
from steerzo_edge.model.bank import JoinedLinears

Norm = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Family:
    """What differs between the classes of layers.

    Args:
        before_mlp: The name of the norm before the MLP.
        after_attention: The name of the norm of what attention adds to the stream; None if there is none.
        after_mlp: The same of the MLP.
        rotary_by_kind: Whether layers that attend to a window have rotary positions of their own.
    """

    before_mlp: str = "post_attention_layernorm"
    after_attention: str | None = None
    after_mlp: str | None = None
    rotary_by_kind: bool = False


LAYERS: Final[Mapping[str, Family]] = {
    "LlamaDecoderLayer": Family(),
    "Qwen2DecoderLayer": Family(),
    "Qwen3DecoderLayer": Family(),
    "Gemma3DecoderLayer": Family(
        before_mlp="pre_feedforward_layernorm",
        after_attention="post_attention_layernorm",
        after_mlp="post_feedforward_layernorm",
        rotary_by_kind=True,
    ),
}


@dataclass(frozen=True, slots=True)
class Rotation:
    """The rotary positions of n tokens.

    Args:
        cos: (n, 1, d).
        sin: (n, 1, d), with the first half of its columns negated.
    """

    cos: Tensor
    sin: Tensor

    @classmethod
    def of(cls, cos: Tensor, sin: Tensor) -> "Rotation":
        """From what a model's rotary embedding returns, (n, 1, d) each."""
        half = sin.shape[-1] // 2
        return cls(cos, torch.cat((-sin[..., :half], sin[..., half:]), -1))

    def __call__(self, x: Tensor) -> Tensor:
        """Rotates the heads (n, H, d) of n tokens."""
        turned = x.roll(x.shape[-1] // 2, -1).mul_(self.sin)
        return (x * self.cos).add_(turned)


class RowLayer:
    """One decoder layer.

    Args:
        layer: A module of a class in `LAYERS`, whose linear layers are in a bank.
        index: Its number, from 0.
        x: A hidden state; only its type and device matter.

    Attributes:
        kind: Which of the model's rotary embeddings it uses; None if there is one for all layers.
    """

    def __init__(self, layer: nn.Module, index: int, x: Tensor) -> None:
        parts: Any = layer
        attention, mlp = parts.self_attn, parts.mlp
        family = LAYERS[type(layer).__name__]
        self.kind: str | None = attention.layer_type if family.rotary_by_kind else None
        self._index = index
        self._depth = int(attention.head_dim)
        self._shared = attention.k_proj.out_features // self._depth
        self._heads = attention.q_proj.out_features // self._depth
        self._scale = float(attention.scaling)
        self._window: int | None = getattr(attention, "sliding_window", None)
        self._enter = norm_of(parts.input_layernorm)
        self._qkv = JoinedLinears([attention.q_proj, attention.k_proj, attention.v_proj], x)
        self._qk_norm = self._norm_of_heads(attention)
        self._out = JoinedLinears([attention.o_proj], x)
        self._after_attention = _optional(parts, family.after_attention)
        self._before_mlp = norm_of(getattr(parts, family.before_mlp))
        self._gate_up = JoinedLinears([mlp.gate_proj, mlp.up_proj], x)
        self._activation: Norm = mlp.act_fn
        self._down = JoinedLinears([mlp.down_proj], x)
        self._after_mlp = _optional(parts, family.after_mlp)

    def __call__(self, x: Tensor, rotation: Rotation, pool: CachePool) -> Tensor:
        """Hidden states before and after the layer, (n, 1, D); the pool is extended."""
        added = self._out(self._attend(self._qkv(self._enter(x)), rotation, pool))
        x = x + (added if self._after_attention is None else self._after_attention(added))
        gate, up = self._gate_up(self._before_mlp(x)).chunk(2, -1)
        added = self._down(self._activation(gate).mul_(up))
        return x + (added if self._after_mlp is None else self._after_mlp(added))

    def _attend(self, qkv: Tensor, rotation: Rotation, pool: CachePool) -> Tensor:
        """(n, 1, (H + 2 Hkv) d) to (n, 1, H d)."""
        count = len(qkv)
        heads = qkv.view(count, -1, self._depth)
        turning, values = heads.split((self._heads + self._shared, self._shared), 1)
        if self._qk_norm is not None:
            turning = self._qk_norm(turning)
        queries, keys = rotation(turning).split((self._heads, self._shared), 1)
        k, v = pool.extend(self._index, keys, values)
        return attend_rows(queries, k, v, pool.hidden(self._window), self._scale)

    def _norm_of_heads(self, attention: Any) -> Norm | None:
        """The norms of queries and keys, as one over all heads."""
        if not hasattr(attention, "q_norm"):
            return None
        of_queries, of_keys = attention.q_norm, attention.k_norm
        weights = (of_queries.weight.expand(self._heads, -1), of_keys.weight.expand(self._shared, -1))
        return norm_of(of_queries, torch.cat(weights))


def norm_of(module: Any, weight: Tensor | None = None) -> Norm:
    """The function of an RMS norm, with the roundings of its family.

    Args:
        module: Llama's kind, which rounds before it multiplies by the weight, or Gemma's, which rounds at the end
            and multiplies by one more than the weight.
        weight: In place of the module's own: (..., d).
    """
    weight = (module.weight if weight is None else weight).detach()
    shape = weight.shape[-1:]
    if hasattr(module, "variance_epsilon"):
        return _LlamaNorm(weight, shape, module.variance_epsilon)
    return _GemmaNorm(1.0 + weight.float(), shape, module.eps)


@dataclass(frozen=True, slots=True)
class _LlamaNorm:
    weight: Tensor
    shape: torch.Size
    epsilon: float

    def __call__(self, x: Tensor) -> Tensor:
        return nn.functional.rms_norm(x, self.shape, None, self.epsilon).mul_(self.weight)


@dataclass(frozen=True, slots=True)
class _GemmaNorm:
    weight: Tensor
    shape: torch.Size
    epsilon: float

    def __call__(self, x: Tensor) -> Tensor:
        found = nn.functional.rms_norm(x.float(), self.shape, None, self.epsilon).mul_(self.weight)
        return found.to(x.dtype)


def _optional(parts: Any, name: str | None) -> Norm | None:
    return None if name is None else norm_of(getattr(parts, name))
