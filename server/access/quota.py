"""How much the data directory may hold. Looked at before something new is kept; what runs already may grow."""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from server.problems import NoRoomError
from server.store.database import Database
from server.store.directory import PASSING

# A walk over thousands of files takes milliseconds; a burst of uploads need not pay for it every time.
FRESH_S: Final = 2.0
# Requests that make the server keep something. Their bodies become files and rows of about the same size.
KEEPING: Final = frozenset({"/datasets", "/adapters", "/jobs", "/v1/files", "/v1/fine_tuning/jobs"})


class Quota:
    """The quota of a data directory.

    Args:
        root: The data directory.
        database: Where datasets are counted.
        most_bytes: Of all files in it; None is no quota.
        most_datasets: Datasets that may be kept.
        least_free_bytes: What must stay free on its disk.
        now: A clock in seconds that never goes back.
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
        """Refuses what does not fit.

        Args:
            more_bytes: What the request brings, as far as that is known.
            datasets: Whether it may bring a dataset.

        Raises:
            NoRoomError: With the figures.
        """
        self.check_disk(more_bytes)
        if self._most_bytes is not None and self.held_bytes() + more_bytes > self._most_bytes:
            raise NoRoomError(
                f"the data directory holds {self.held_bytes()} bytes, {more_bytes} would come, the quota is "
                f"{self._most_bytes}"
            )
        if not datasets:
            return
        count = int(self._database.rows("SELECT COUNT(*) FROM datasets")[0][0])
        if count >= self._most_datasets:
            raise NoRoomError(f"there are {count} datasets, and no more than {self._most_datasets} are kept")

    def check_disk(self, more_bytes: int = 0) -> None:
        """Refuses what would fill the disk.

        Raises:
            NoRoomError: With the figures.
        """
        free = shutil.disk_usage(self._root).free
        if free - more_bytes < self._least_free_bytes:
            raise NoRoomError(f"the disk has {free >> 20} MiB free, {self._least_free_bytes >> 20} must stay so")

    def held_bytes(self) -> int:
        """Bytes of all files in the data directory, at most two seconds ago."""
        now = self._now()
        if self._seen is None or now - self._seen[0] >= FRESH_S:
            self._seen = (now, _bytes_under(self._root))
        return self._seen[1]


def _bytes_under(root: Path) -> int:
    total = 0
    for directory, below, names in os.walk(root):
        below[:] = [name for name in below if not name.startswith(PASSING)]
        for name in names:
            try:
                total += os.lstat(os.path.join(directory, name)).st_size
            except FileNotFoundError:  # gone since: temporary files, deleted jobs
                continue
    return total
