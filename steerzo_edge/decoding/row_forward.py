"""The decoder of a base for one new token of each row, without the calls of `transformers` around each operation.

It is used on a CPU for families whose layers `row_layers.py` knows. Before its first token it is compared with the
forward of `transformers` on the same token: unless all bits are equal, the base is decoded by `transformers`.
"""

from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from steerzo_edge.decoding.cache_pool import CachePool
from steerzo_edge.decoding.row_layers import LAYERS, Rotation, RowLayer, norm_of
from steerzo_edge.model.base import Base
from steerzo_edge.model.head import is_plain
from steerzo_edge.model.head_screen import MOST_ROWS, HeadScreen, gains
from steerzo_edge.model.layers import decoder_layers
from steerzo_edge.model.matmul import linear_by_row, product_dtype


class RowForward:
    """Last hidden states, logits, or likeliest next tokens for one new token of each of n rows.

    Args:
        base: Whose layers are in `LAYERS`; only the thread that owns it may call this.
    """

    def __init__(self, base: Base) -> None:
        self._model: Any = base.model.base_model
        x = torch.empty(0, dtype=base.compute_dtype, device=base.device)
        modules = decoder_layers(base.model)[1]
        self._layers = [RowLayer(module, index, x) for index, module in enumerate(modules)]
        self._kinds = list(dict.fromkeys(layer.kind for layer in self._layers))
        self._norm = norm_of(self._model.norm)
        self._head: Any = base.model.get_output_embeddings()

    def logits(self, states: Tensor) -> Tensor:
        """(n, D) last hidden states to (n, V)."""
        return head_logits(self._head, states)

    def likeliest(self, states: Tensor) -> Tensor:
        """(n, D) last hidden states to (n,), the first token with the largest logit of each."""
        if self._screen is not None and len(states) <= MOST_ROWS:
            return self._screen.likeliest(states)
        return self.logits(states).argmax(-1)

    @cached_property
    def _screen(self) -> HeadScreen | None:
        """Made when the first token is chosen: it takes memory, which training alone does not need."""
        weight = self._head.weight.detach()
        return HeadScreen(weight) if self._head.bias is None and gains(weight) else None

    def states(self, ids: Tensor, positions: Tensor, pool: CachePool) -> Tensor:
        """Puts the tokens through the decoder layers.

        Args:
            ids: (n, 1) int64 token ids.
            positions: (n, 1) int64, how many tokens each row has before it.
            pool: Where the rows' keys and values are; `CachePool.begin` was called for these rows.

        Returns:
            (n, D) last hidden states, in the compute type.
        """
        x: Tensor = self._model.embed_tokens(ids)
        rotations = {kind: self._rotation(x, positions, kind) for kind in self._kinds}
        for layer in self._layers:
            x = layer(x, rotations[layer.kind], pool)
        return self._norm(x).squeeze(1)

    def _rotation(self, x: Tensor, positions: Tensor, kind: str | None) -> Rotation:
        rotary = self._model.rotary_emb
        return Rotation.of(*(rotary(x, positions) if kind is None else rotary(x, positions, kind)))


def head_logits(head: Any, states: Tensor) -> Tensor:
    """The output head's product, whose bits of a row do not depend on the others.

    Args:
        head: The model's output embedding, (V, D).
        states: (n, D) last hidden states.

    Returns:
        (n, V).
    """
    if product_dtype(states) == states.dtype:
        return head(states)  # type: ignore[no-any-return]
    return linear_by_row(states, head.weight, head.bias)


def can_run_directly(base: Base) -> bool:
    """Whether a base is on a CPU and of a family that `RowForward` knows, and its logits are the head's product.

    Args:
        base: The frozen model.
    """
    modules = decoder_layers(base.model)[1]
    known = all(type(module).__name__ in LAYERS for module in modules)
    return known and base.device.type == "cpu" and is_plain(base.model.config)
