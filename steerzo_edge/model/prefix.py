"""The frozen prefix: the hidden states that enter the lowest trained layer, computed once for each row and kept.

The base never changes, so these hidden states are the same in every step and every epoch. If those of all rows fit
into the memory and disk limits together, they are kept, first in memory, then on disk; otherwise they are computed
once a batch. Their bits depend on the rows only, not on when they are needed: rows are always computed in the same
blocks, so that a run that was killed continues with the same numbers.
"""

import logging
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from steerzo_edge.data.packing import Fork, Packed, pack, starts
from steerzo_edge.model.base import Base, HiddenStates
from steerzo_edge.storage.sealed import write_tensors

log = logging.getLogger(__name__)


@dataclass(slots=True)
class PrefixUsage:
    """What a store holds, and how often it computed or read a block.

    Args:
        memory_bytes: Held in memory now.
        disk_bytes: Held on disk now.
        computed: Blocks of rows computed by the frozen layers.
        read: Blocks read back from disk.
    """

    memory_bytes: int = 0
    disk_bytes: int = 0
    computed: int = 0
    read: int = 0


class PrefixStore:
    """Hidden states that enter a layer, for a fixed set of rows.

    Args:
        base: The frozen model.
        rows: All rows that batches may contain; equal rows are kept once.
        first_layer: The layer, at least 1.
        block_tokens: Most tokens computed at once, unless a single row has more.
        memory_bytes: Limit of what is held in memory.
        disk_bytes: Limit of what is held on disk, if `directory` is given.
        directory: Where blocks are written. It is made when needed; no other code writes there.
    """

    def __init__(
        self,
        base: Base,
        rows: Sequence[Fork],
        first_layer: int,
        *,
        block_tokens: int,
        memory_bytes: int,
        disk_bytes: int = 0,
        directory: Path | None = None,
    ) -> None:
        self.first_layer = first_layer
        self.usage = PrefixUsage()
        self._base = base
        self._memory_bytes = memory_bytes
        self._disk_bytes = disk_bytes if directory is not None else 0
        self._directory = directory
        self._held: OrderedDict[int, Tensor] = OrderedDict()
        self._written: set[int] = set()
        self._blocks = _blocks(rows, block_tokens)
        self._places = {
            row: (block, start)
            for block, members in enumerate(self._blocks)
            for row, start in zip(members, starts(members), strict=True)
        }
        width = int(base.model.config.hidden_size) * base.compute_dtype.itemsize
        self.needed_bytes = width * sum(len(row.tokens) for row in self._places)
        self.keeps = self.needed_bytes <= self._memory_bytes + self._disk_bytes
        if directory is not None and directory.is_dir():
            for left in directory.glob("block-*"):  # from a process of this run that was killed
                left.unlink()

    def of(self, packed: Packed) -> HiddenStates:
        """Hidden states that enter the layer, on the base's device.

        Args:
            packed: Some of the rows that the store was made for.
        """
        return self._gathered(packed) if self.keeps else self._computed(packed)

    def _computed(self, packed: Packed) -> HiddenStates:
        with torch.inference_mode(), self._base.bank.route({}):
            return self._base.hidden_at(self.first_layer, packed)

    def _gathered(self, packed: Packed) -> HiddenStates:
        parts = []
        for row in packed.rows:
            block, start = self._places[row]
            parts.append(self._block(block)[start : start + len(row.tokens)])
        states = torch.cat(parts)
        padding = packed.input_ids.shape[1] - len(states)
        if padding:
            states = torch.nn.functional.pad(states, (0, 0, 0, padding))
        return HiddenStates(self.first_layer, states.unsqueeze(0).to(self._base.device))

    def _block(self, index: int) -> Tensor:
        held = self._held.get(index)
        if held is not None:
            self._held.move_to_end(index)
            return held
        found = self._read(index)
        if found is None:
            packed = pack(self._blocks[index], self._base.device)
            found = self._computed(packed).states[0].cpu()
            self.usage.computed += 1
        self._hold(index, found)
        return found

    def _hold(self, index: int, found: Tensor) -> None:
        self._held[index] = found
        self.usage.memory_bytes += found.nbytes
        while self.usage.memory_bytes > self._memory_bytes and len(self._held) > 1:
            oldest, tensor = self._held.popitem(last=False)
            self.usage.memory_bytes -= tensor.nbytes
            self._write(oldest, tensor)

    def _write(self, index: int, tensor: Tensor) -> None:
        """Writes a block if there is room; one that is not written is computed again when it is needed."""
        if index in self._written or self.usage.disk_bytes + tensor.nbytes > self._disk_bytes:
            return
        assert self._directory is not None
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            write_tensors(self._path(index), {"hidden": tensor.contiguous()}, {})
        except OSError as error:
            log.warning("hidden states of a block of rows were not written: %s", error)
            self._disk_bytes = 0
            return
        self._written.add(index)
        self.usage.disk_bytes += tensor.nbytes

    def _read(self, index: int) -> Tensor | None:
        if index not in self._written:
            return None
        try:
            found = load_file(self._path(index))["hidden"]
        except (OSError, SafetensorError, KeyError) as error:
            log.warning("hidden states of a block of rows cannot be read: %s", error)
            self._written.discard(index)
            return None
        self.usage.read += 1
        return found

    def _path(self, index: int) -> Path:
        assert self._directory is not None
        return self._directory / f"block-{index:06}.safetensors"

    def close(self) -> None:
        """Removes the store's files."""
        for index in self._written:
            with suppress(OSError):
                self._path(index).unlink()
        self._written.clear()
        if self._directory is not None:
            with suppress(OSError):
                self._directory.rmdir()


def _blocks(rows: Sequence[Fork], most: int) -> list[list[Fork]]:
    """Groups rows of similar length; the result depends on the set of rows only."""
    blocks: list[list[Fork]] = [[]]
    tokens = 0
    for row in sorted(dict.fromkeys(rows), key=lambda row: (len(row.tokens), row.stem, row.branches)):
        if blocks[-1] and tokens + len(row.tokens) > most:
            blocks.append([])
            tokens = 0
        blocks[-1].append(row)
        tokens += len(row.tokens)
    return blocks
