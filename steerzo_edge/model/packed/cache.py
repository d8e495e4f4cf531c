"""Packed copies of bases, kept for the next start: found by what they were made from, bounded in bytes.

DIRECTORY/KEY.packed      one base; the time of its last change is that of its last use
DIRECTORY/hashes.json     hashes of source files (`known_hashes.py`)

A base is used whether or not the cache works: what goes wrong is logged, and the base is loaded from its source.
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from steerzo_edge.errors import BaseModelError, StorageError
from steerzo_edge.model.base import Base
from steerzo_edge.model.packed.contents import pack_base, packed_bytes, versions
from steerzo_edge.model.packed.file import FORMAT, SUFFIX, DamagedError, read_notes
from steerzo_edge.model.packed.known_hashes import KnownHashes
from steerzo_edge.model.quantization import STORAGES, Quantization
from steerzo_edge.model.sources.source import Source
from steerzo_edge.storage.claimed import is_claimed, remove_abandoned, remove_unused

MOST_BYTES: Final = 16 << 30
_SPARE_BYTES: Final = 64 << 20
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Place:
    """Where the packed copy of a base is, or would be.

    Args:
        path: The file.
        content: Hash of what the base is loaded from.
    """

    path: Path
    content: str


@dataclass(frozen=True, slots=True)
class Kept:
    """One packed copy.

    Args:
        path: The file.
        size: Its bytes.
        used: When it was used last, in seconds since 1970.
        notes: Of the file; empty if they cannot be read.
        in_use: Whether a process has it open.
    """

    path: Path
    size: int
    used: float
    notes: dict[str, Any]
    in_use: bool

    @property
    def key(self) -> str:
        """Its name in the cache."""
        return self.path.name.removesuffix(SUFFIX)

    @property
    def source(self) -> str:
        """What the base was called when it was packed."""
        return str(self.notes.get("source", {}).get("name", "?"))


class PackedCache:
    """The packed copies in a directory.

    Args:
        directory: Made when a copy is kept.
        most_bytes: Of all copies together; the least recently used go first, one in use never.
        least_free_bytes: Bytes that stay free on its disk.
    """

    def __init__(self, directory: Path, most_bytes: int, least_free_bytes: int = _SPARE_BYTES) -> None:
        self.directory = directory
        self._most_bytes = most_bytes
        self._least_free_bytes = least_free_bytes

    def place(
        self, source: Source, quantization: Quantization, compute_dtype: torch.dtype, device: torch.device
    ) -> Place | None:
        """Where the packed copy of a base belongs; None if none is kept of it.

        Note:
            The key has the versions of all libraries that decide the bits, so a copy is what a load would give.

        Args:
            source: Of the base.
            quantization: How its linear layers are stored.
            compute_dtype: The type of activations.
            device: Where it is to be.
        """
        storage = STORAGES[quantization]
        if not (storage.quantized and storage.can_restore):
            return None
        try:
            made_from = self.content_hash(source)
        except (OSError, ValueError, BaseModelError) as error:
            log.info("no packed copy of %s is looked for: %s", source.name, error)
            return None
        if made_from is None:
            return None
        decides = [FORMAT, made_from, quantization, str(compute_dtype), versions(device)]
        key = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:32]
        return Place(self.directory / f"{key}{SUFFIX}", made_from)

    def content_hash(self, source: Source) -> str | None:
        """Hash of what decides a source's content; None if no packed copy is to be kept of it.

        Args:
            source: Of a base.

        Raises:
            OSError: If there is no such base.
            BaseModelError: If it cannot be asked for.
        """
        content = source.content()
        if content is None:
            return None
        self.directory.mkdir(parents=True, exist_ok=True)
        remove_abandoned(self.directory, f"*{SUFFIX}")
        files = KnownHashes(self.directory / "hashes.json").of(content.files)
        return hashlib.sha256(json.dumps([content.version, files]).encode()).hexdigest()

    def keep(self, base: Base, source: Source, place: Place) -> None:
        """As `add`, but logs why it cannot be done.

        Args:
            base: As `load_base` loaded it.
            source: Where it was loaded from.
            place: As `place` gave it.
        """
        try:
            self.add(base, source, place)
        except Exception as error:  # the base works without it
            log.warning("no packed copy of %s is kept: %s", base.name, error)

    def add(self, base: Base, source: Source, place: Place) -> None:
        """Writes the packed copy of a base.

        Args:
            base: As `load_base` loaded it.
            source: Where it was loaded from.
            place: As `place` gave it.

        Raises:
            StorageError: If it does not fit, or the disk is full or fails; nothing is left then.
            BaseModelError: If it cannot be packed, or its files have changed meanwhile.
        """
        size = packed_bytes(base)
        try:
            if not self._make_room(size):
                raise StorageError(
                    f"{size >> 20} MiB do not fit into {self.directory}",
                    hint="Free some space, or raise STEERZO_MAX_PACKED_BYTES.",
                )
            if self.content_hash(source) != place.content:
                raise BaseModelError(f"the files of {base.name!r} have changed since they were read")
            pack_base(base, source.tokenizer(), place.path, content=place.content)
            self._make_room(0)  # its tokenizer was not counted
        except OSError as error:
            raise StorageError(f"the packed copy cannot be written: {error.strerror or error}") from error

    def use(self, place: Place) -> None:
        """Notes that a copy is used now."""
        with suppress(OSError):
            os.utime(place.path)

    def discard(self, place: Place) -> None:
        """Deletes a copy that cannot be opened."""
        with suppress(OSError):
            place.path.unlink(missing_ok=True)

    def kept(self) -> list[Kept]:
        """All copies, the most recently used first."""
        return sorted(self._all(), key=lambda each: -each.used)

    def drop(self, kept: Kept) -> bool:
        """Deletes a copy, unless a process has it open.

        Returns:
            Whether it is gone.
        """
        return remove_unused(kept.path)

    def _make_room(self, size: int) -> bool:
        """Whether so many bytes more may be kept, after the least recently used copies are dropped."""
        all_kept = sorted(self._all(), key=lambda each: each.used)
        held = sum(each.size for each in all_kept)
        free = shutil.disk_usage(self.directory).free - (self._least_free_bytes if size else 0)
        for each in all_kept:
            if held + size <= self._most_bytes and size <= free:
                break
            if self.drop(each):
                held, free = held - each.size, free + each.size
        return held + size <= self._most_bytes and size <= free

    def _all(self) -> Iterator[Kept]:
        for path in self.directory.glob(f"*{SUFFIX}"):
            try:
                facts = path.stat()
                notes = dict(read_notes(path))
            except FileNotFoundError:  # dropped meanwhile
                continue
            except (OSError, DamagedError):
                notes = {}
            yield Kept(path, facts.st_size, facts.st_mtime, notes, is_claimed(path))
