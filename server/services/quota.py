"""The quota of the data directory, checked before new data is stored; files of running jobs may exceed it."""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from server.errors import NoRoomError
from server.store.database import Database
from server.store.directory import OUTGOING, PACKED

# Adding up thousands of files takes milliseconds, so a burst of uploads shares one result.
FRESH_S: Final = 2.0
# Paths of POST requests that store data. Their bodies become files and rows of about the same size.
STORING_PATHS: Final = frozenset(
    {"/datasets", "/adapters", "/jobs", "/sweeps", "/v1/files", "/v1/fine_tuning/jobs"}
)


class Quota:
    """The quota of a data directory.

    Args:
        root: The data directory.
        database: The database that holds the table of datasets.
        most_bytes: Most bytes of all files in it; None sets no limit.
        most_datasets: Most datasets that are kept.
        least_free_bytes: Bytes that must stay free on its disk.
        now: A clock of monotonic seconds.
    """

    def __init__(
        self,
        root: Path,
        database: Database,
        *,
        most_bytes: int | None,
        most_datasets: int,
        least_free_bytes: int,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root = root
        self._database = database
        self._most_bytes = most_bytes
        self._most_datasets = most_datasets
        self._least_free_bytes = least_free_bytes
        self._now = now
        self._seen: tuple[float, int] | None = None

    def check(self, more_bytes: int, *, datasets: bool = True) -> None:
        """Refuses data that does not fit.

        Args:
            more_bytes: Bytes to be stored, as far as they are known.
            datasets: Whether the request may add a dataset.

        Raises:
            NoRoomError: If disk, quota or the number of datasets do not allow it; the message has the figures.
        """
        self.check_disk(more_bytes)
        if self._most_bytes is not None and self.held_bytes() + more_bytes > self._most_bytes:
            raise NoRoomError(
                f"the data directory holds {self.held_bytes()} bytes, the request adds {more_bytes}, the quota is "
                f"{self._most_bytes}"
            )
        if not datasets:
            return
        count = int(self._database.rows("SELECT COUNT(*) FROM datasets")[0][0])
        if count >= self._most_datasets:
            raise NoRoomError(f"there are {count} datasets; the limit is {self._most_datasets}")

    def check_disk(self, more_bytes: int = 0) -> None:
        """Refuses data that would fill the disk.

        Raises:
            NoRoomError: If less than `least_free_bytes` would stay free.
        """
        free = shutil.disk_usage(self._root).free
        if free - more_bytes < self._least_free_bytes:
            raise NoRoomError(
                f"the disk has {free >> 20} MiB free, of which {self._least_free_bytes >> 20} must stay free"
            )

    def held_bytes(self) -> int:
        """Bytes of all files in the data directory, counted at most two seconds ago."""
        now = self._now()
        if self._seen is None or now - self._seen[0] >= FRESH_S:
            self._seen = (now, _bytes_under(self._root))
        return self._seen[1]


def _bytes_under(root: Path) -> int:
    total = 0
    for directory, below, names in os.walk(root):
        packed = {PACKED} if directory == os.fspath(root) else set()
        below[:] = [name for name in below if not name.startswith(OUTGOING) and name not in packed]
        for name in names:
            try:
                total += os.lstat(os.path.join(directory, name)).st_size
            except FileNotFoundError:  # deleted meanwhile: temporary files, deleted jobs
                continue
    return total
