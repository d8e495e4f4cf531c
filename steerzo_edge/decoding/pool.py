"""The keys and values of the rows that are decoded together: one block of memory for each layer.

A row's tokens begin at the block's first column, whatever the others' lengths; what lies behind them is hidden.
Widths are multiples of ROOM. So the sums of a row's attention are made of the same terms in the same order as if it
were alone, and zeros: padding on the left would change the order, and the last bit with it.

    row 0   k k k k k k k . . . | . . . .        a row that joins is copied behind the last;
    row 1   k k k k k k k k k k | k . . .        one that leaves has its place taken by the last
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from steerzo_edge.decoding.cache import RowCache, blocks_of

ROWS = 4


class Pool:
    """Keys and values of n rows.

    Attributes:
        lengths: Tokens of each row that every layer has; a forward's own are counted when it has ended.
    """

    def __init__(self) -> None:
        self.lengths: list[int] = []
        self._layers: list[tuple[Tensor, Tensor]] = []
        self._columns = 0
        self._ends = torch.empty(0, dtype=torch.int64)
        self._hidden: dict[int | None, Tensor] = {}

    @property
    def bytes(self) -> int:
        """Memory it takes now."""
        return sum(block.nbytes for blocks in self._layers for block in blocks)

    def join(self, cache: RowCache) -> None:
        """Takes a row up, behind the others.

        Args:
            cache: What it has been read into; not needed any more when this returns.
        """
        self.lengths.append(cache.length)
        if not self._layers:
            self._layers = [(k.new_empty(0, *k.shape), v.new_empty(0, *v.shape)) for k, v in cache.layers]
        self._fit()
        row = len(self.lengths) - 1
        for blocks, parts in zip(self._layers, cache.layers, strict=True):
            for block, part in zip(blocks, parts, strict=True):
                block[row].zero_()  # nothing of a row that was here before, lest it holds what is not finite
                block[row, :, : cache.length] = part[:, : cache.length]

    def leave(self, row: int) -> None:
        """Forgets a row; the last takes its place.

        Args:
            row: Its number.
        """
        last = len(self.lengths) - 1
        for block in (block for blocks in self._layers for block in blocks if row != last):
            block[row] = block[last]
        self.lengths[row] = self.lengths[last]
        self.lengths.pop()
        if self.lengths:
            self._fit()
        else:
            self._layers, self._columns = [], 0

    def begin(self, device: torch.device) -> None:
        """Before a forward with one new token for each row.

        Args:
            device: Where the model is.
        """
        self._fit()
        self._ends = torch.tensor(self.lengths, device=device)
        self._hidden.clear()

    def end(self) -> None:
        """After it."""
        self.lengths = [length + 1 for length in self.lengths]

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Writes a layer's keys and values of the new token behind those of the tokens before.

        Args:
            layer: From 0.
            keys: (n, Hkv, 1, d).
            values: (n, Hkv, 1, d), where d may be another.

        Returns:
            (n, Hkv, W, d) of both, as views; what `hidden` hides is to be left out.
        """
        count = len(self.lengths)
        rows = torch.arange(count, device=keys.device)
        for block, new in zip(self._layers[layer], (keys, values), strict=True):
            block[rows, :, self._ends] = new[:, :, 0]
        k, v = self._layers[layer]
        return k[:count], v[:count]

    def hidden(self, window: int | None) -> Tensor:
        """(n, 1, 1, W) bool: the columns that a row's new token does not look at.

        Args:
            window: How many tokens it looks back, itself included; None for all.
        """
        if window not in self._hidden:
            places, ends = torch.arange(self._columns, device=self._ends.device), self._ends[:, None]
            hidden = places > ends
            if window is not None:
                hidden |= places <= ends - window
            self._hidden[window] = hidden[:, None, None]
        return self._hidden[window]

    def _fit(self) -> None:
        """Makes the blocks as large as the rows need for their next token, and no larger."""
        rows = -(-len(self.lengths) // ROWS) * ROWS
        columns = blocks_of(max(self.lengths) + 1)
        if self._layers[0][0].shape[0] == rows and self._columns == columns:
            return
        self._columns = columns
        self._layers = [(_resized(k, rows, columns), _resized(v, rows, columns)) for k, v in self._layers]


def pool_bytes(row_bytes: Sequence[int]) -> int:
    """What a pool takes at most.

    Args:
        row_bytes: What each of its rows needs.
    """
    return -(-len(row_bytes) // ROWS) * ROWS * max(row_bytes, default=0)


def _resized(block: Tensor, rows: int, columns: int) -> Tensor:
    found = block.new_zeros(rows, block.shape[1], columns, block.shape[3])
    kept_rows, kept_columns = min(rows, block.shape[0]), min(columns, block.shape[2])
    found[:kept_rows, :, :kept_columns] = block[:kept_rows, :, :kept_columns]
    return found
