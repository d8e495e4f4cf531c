"""A cache of loaded adapters: each is loaded on first use and checked by hash; the least recently used is evicted.

An answer that is under way keeps the patches it began with, even if the adapter is evicted or deleted meanwhile.
"""

import threading
from collections import OrderedDict
from pathlib import Path

from torch import Tensor

from server.store.adapter_files import AdapterFiles
from server.store.adapters import AdapterRow
from steerzo_edge.errors import AdapterFileError
from steerzo_edge.model.adapter_file import CONFIG, WEIGHTS, file_sha256, load_adapter
from steerzo_edge.model.base import Base
from steerzo_edge.model.patches import Patches

Key = tuple[str, str]


class AdapterCache:
    """Loads adapters, and keeps the most recently used in memory.

    Args:
        files: The adapters' files.
        most_bytes: Most bytes kept. An adapter larger than that is loaded each time it is used.
    """

    def __init__(self, files: AdapterFiles, *, most_bytes: int) -> None:
        self._files = files
        self._most_bytes = most_bytes
        self._kept: OrderedDict[Key, tuple[Patches, int]] = OrderedDict()
        self._lock = threading.Lock()

    def patches(self, row: AdapterRow, base: Base) -> Patches:
        """An adapter's patches; called on the device's thread.

        Raises:
            AdapterFileError: If a file has changed since it was stored, or does not fit the base.
        """
        # The key includes the content: a resumed job writes another adapter under the same name.
        key = (row.owner, row.sha256)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key][0]
        self.check(row)
        patches = load_adapter(self._files.directory(row), base)
        self._keep(key, patches)
        return patches

    def check(self, row: AdapterRow) -> None:
        """Compares the hashes of the files with those stored in the table.

        Raises:
            AdapterFileError: If a file is missing or has changed.
        """
        directory = self._files.directory(row)
        _check(row, directory / WEIGHTS, row.sha256)
        if "config_sha256" in row.facts:
            _check(row, directory / CONFIG, row.facts["config_sha256"])

    def forget(self, owner: str) -> None:
        """Drops the adapters of a job, or an uploaded adapter, by id. May be called from any thread."""
        with self._lock:
            for key in [key for key in self._kept if key[0] == owner]:
                del self._kept[key]

    def holds(self, row: AdapterRow) -> bool:
        """Whether an adapter is in memory."""
        with self._lock:
            return (row.owner, row.sha256) in self._kept

    @property
    def held_bytes(self) -> int:
        """Bytes of all adapters in memory."""
        with self._lock:
            return self._held()

    def _keep(self, key: Key, patches: Patches) -> None:
        size = bytes_of(patches)
        if size > self._most_bytes:
            return
        with self._lock:
            while self._kept and self._held() + size > self._most_bytes:
                self._kept.popitem(last=False)
            self._kept[key] = (patches, size)

    def _held(self) -> int:
        return sum(size for _, size in self._kept.values())


def bytes_of(patches: Patches) -> int:
    """Bytes of all tensors of an adapter's patches."""
    names = ("a", "b", "weight", "bias", "ratio")
    parts = [part for patch in patches.values() for part in (patch, getattr(patch, "lora", None))]
    found = [getattr(part, name, None) for part in parts for name in names]
    return sum(value.nbytes for value in found if isinstance(value, Tensor))


def _check(row: AdapterRow, path: Path, sha256: str) -> None:
    of = f"of job {row.job}" if row.job else f"{row.id} ({row.name})"
    try:
        found = file_sha256(path)
    except OSError as error:
        raise AdapterFileError(f"the adapter {of} cannot be read: {error.strerror}") from None
    if found != sha256:
        raise AdapterFileError(
            f"the adapter {of} is damaged: the sha256 of {path.name} is {found}, but {sha256} was stored",
            hint="Check the disk. The same job with the same seed makes the same adapter again; an upload can be "
            "sent again.",
        )
