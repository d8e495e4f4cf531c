"""The keys and values of the rows that are decoded together: one block of memory for each layer.

A row's tokens begin at the first column of the block, whatever the lengths of other rows; the columns after them
are masked. Widths are multiples of ROOM. So a row's attention sums the same terms in the same order as if the row
were alone, plus zeros; padding on the left would change the order, and with it the last bit.

    row 0   k k k k k k k . . . | . . . .        a new row is copied to the end;
    row 1   k k k k k k k k k k | k . . .        the last row takes the place of a row that leaves
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from steerzo_edge.decoding.cache import RowCache, blocks_of

ROWS = 4


class CachePool:
    """Keys and values of n rows.

    Attributes:
        lengths: For each row the number of tokens that every layer holds; those of a forward are counted after it.
    """

    def __init__(self) -> None:
        self.lengths: list[int] = []
        self._layers: list[tuple[Tensor, Tensor]] = []
        self._columns = 0
        self._taken = range(0)
        self._ends = torch.empty(0, dtype=torch.int64)
        self._places = self._ends, self._ends
        self._hidden: dict[int | None, Tensor] = {}

    @property
    def bytes(self) -> int:
        """Bytes that it takes now."""
        return sum(block.nbytes for blocks in self._layers for block in blocks)

    def join(self, cache: RowCache) -> None:
        """Adds a row after the others; if memory does not suffice, it raises and the others are unchanged.

        Args:
            cache: The row's keys and values, which are copied.
        """
        if not self._layers:
            self._layers = [(k.new_empty(0, *k.shape), v.new_empty(0, *v.shape)) for k, v in cache.layers]
        row = len(self.lengths)
        try:
            self._fit([*self.lengths, cache.length])
        except BaseException:
            if not self.lengths:
                self._layers = []
            raise
        for blocks, parts in zip(self._layers, cache.layers, strict=True):
            for block, part in zip(blocks, parts, strict=True):
                block[row].zero_()  # an earlier row may have left inf or nan here, which masking would not remove
                block[row, :, : cache.length] = part[:, : cache.length]
        self.lengths.append(cache.length)

    def leave(self, row: int) -> None:
        """Removes a row; the last takes its place. Its memory is freed at the next step.

        Args:
            row: Its number.
        """
        last = len(self.lengths) - 1
        for block in (block for blocks in self._layers for block in blocks if row != last):
            block[row] = block[last]
        self.lengths[row] = self.lengths[last]
        self.lengths.pop()

    def begin(self, first: int, ends: Tensor) -> None:
        """Prepares a forward with one new token for each of n consecutive rows.

        Args:
            first: The number of the first of these rows.
            ends: (n,) int64 lengths of these rows, on the model's device.
        """
        self._fit(self.lengths)
        self._taken = range(first, first + len(ends))
        self._ends = ends
        self._hidden.clear()
        if len(ends) > 1:
            self._places = torch.arange(first, first + len(ends), device=ends.device), ends

    def end(self) -> None:
        """Counts the new tokens, after the forward that `begin` prepared."""
        for row in self._taken:
            self.lengths[row] += 1

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Appends a layer's keys and values of the rows' new tokens.

        Args:
            layer: From 0.
            keys: (n, Hkv, d).
            values: (n, Hkv, d); d may differ from that of the keys.

        Returns:
            (n, Hkv, W, d) of both, as views; the columns of `hidden` must be masked.
        """
        first, end = self._taken.start, self._taken.stop
        k, v = self._layers[layer]
        if end - first == 1:
            column = self.lengths[first]
            k[first, :, column], v[first, :, column] = keys[0], values[0]
        else:
            rows, columns = self._places
            k[rows, :, columns], v[rows, :, columns] = keys, values
        return k[first:end, :, : self._columns], v[first:end, :, : self._columns]

    def hidden(self, window: int | None) -> Tensor:
        """(n, 1, 1, W) bool: the columns that a row's new token must not attend to.

        Args:
            window: How many tokens it attends to, itself included; None for all.
        """
        if window not in self._hidden:
            places, ends = torch.arange(self._columns, device=self._ends.device), self._ends[:, None]
            hidden = places > ends
            if window is not None:
                hidden |= places <= ends - window
            self._hidden[window] = hidden[:, None, None]
        return self._hidden[window]

    def _fit(self, lengths: Sequence[int]) -> None:
        """Resizes the blocks to what rows of these lengths need for their next token.

        Layers are resized one after another, so that only one layer is in memory twice. Keys keep their places, so
        an error in the middle leaves valid blocks.
        """
        rows, columns = -(-len(lengths) // ROWS) * ROWS, blocks_of(max(lengths) + 1)
        for layer, (k, v) in enumerate(self._layers):
            if k.shape[0] != rows or k.shape[2] != columns:
                self._layers[layer] = _resized(k, rows, columns), _resized(v, rows, columns)
        self._columns = columns


def pool_bytes(row_bytes: Sequence[int]) -> int:
    """Most bytes that a pool takes.

    Args:
        row_bytes: Bytes that each of its rows needs.
    """
    return -(-len(row_bytes) // ROWS) * ROWS * max(row_bytes, default=0)


def _resized(block: Tensor, rows: int, columns: int) -> Tensor:
    found = block.new_zeros(rows, block.shape[1], columns, block.shape[3])
    kept_rows, kept_columns = min(rows, block.shape[0]), min(columns, block.shape[2])
    found[:kept_rows, :, :kept_columns] = block[:kept_rows, :, :kept_columns]
    return found
