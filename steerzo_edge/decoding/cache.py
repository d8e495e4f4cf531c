"""The keys and values of one prompt while it is read; `cache_pool.py` holds those of the rows that are decoded."""

from dataclasses import dataclass

import torch
from torch import Tensor

from steerzo_edge.data.tokens import Tokens

ROOM = 64


class RowCache:
    """Keys and values of the tokens of one row.

    Attributes:
        length: Number of tokens that every layer holds; the tokens of a forward are counted after it.
        layers: Each layer's keys and values, (Hkv, room, d); columns from `length` on are undefined.
    """

    def __init__(self) -> None:
        self.length = 0
        self.layers: list[tuple[Tensor, Tensor]] = []

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Appends a layer's keys and values of new tokens.

        Args:
            layer: From 0.
            keys: (Hkv, q, d) of q new tokens.
            values: (Hkv, q, d); d may differ from that of the keys.

        Returns:
            The layer's keys and values of all length + q tokens, as views.
        """
        end = self.length + keys.shape[1]
        if layer == len(self.layers):
            self.layers.append((_block(keys, end), _block(values, end)))
        kept = self.layers[layer]
        if end > kept[0].shape[1]:
            kept = self.layers[layer] = self._grown(kept[0], end), self._grown(kept[1], end)
        for block, new in zip(kept, (keys, values), strict=True):
            block[:, self.length : end] = new
        return kept[0][:, :end], kept[1][:, :end]

    @property
    def bytes(self) -> int:
        """Bytes that it takes now."""
        return sum(block.nbytes for kept in self.layers for block in kept)

    def _grown(self, block: Tensor, end: int) -> Tensor:
        larger = _block(block, end)
        larger[:, : self.length] = block[:, : self.length]
        return larger


@dataclass(frozen=True, slots=True)
class Chunk:
    """Tokens of one prompt that are read in one forward.

    Args:
        cache: Holds the tokens of the prompt that were read before.
        tokens: The next tokens of the prompt; not empty.
    """

    cache: RowCache
    tokens: Tokens


def blocks_of(tokens: int) -> int:
    """Number of tokens that a row of so many tokens has memory for: the next multiple of ROOM."""
    return -(-tokens // ROOM) * ROOM


def _block(like: Tensor, tokens: int) -> Tensor:
    return torch.empty(like.shape[0], blocks_of(tokens), like.shape[2], dtype=like.dtype, device=like.device)
