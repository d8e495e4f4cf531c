"""The datasets of a server: each a row in the register and a file in the library, both or neither.

The file comes before its row and goes after it, so that a crash in between leaves a file that nobody knows, never a
row without its file. Such files are removed at the next start.
"""

import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from server.store.datasets import DatasetRow, DatasetTable
from server.store.directory import DataDirectory, left_behind

log = logging.getLogger(__name__)


class DatasetService:
    """Adds and removes datasets.

    Args:
        register: What is known of them.
        library: Where their files are.
    """

    def __init__(self, register: DatasetTable, library: DataDirectory) -> None:
        self._register = register
        self._library = library
        # The same bytes have the same name: a file must not come while another request takes it away.
        self._lock = threading.Lock()

    def add(self, id: str, name: str, incoming: Path, suffix: str, facts: Mapping[str, Any]) -> DatasetRow:
        """Takes a file over; one that is held under this id already stays as it is.

        Args:
            id: Made by the server.
            name: What users call it.
            incoming: The file, synced.
            suffix: Of the file's name here, with the dot.
            facts: What was found in it.

        Raises:
            OSError: If the disk is full or fails; nothing was added.
            sqlite3.OperationalError: As OSError.
        """
        file = f"{id}{suffix}"
        with self._lock:
            held = self._register.find(id)
            if held is not None:
                return held
            self._library.put(incoming, file)
            try:
                return self._register.add(id, name, file, facts)
            except BaseException:
                self._library.drop(file)
                raise

    def remove(self, id: str) -> None:
        """Deletes a dataset.

        Raises:
            NotFoundError: If there is none with this id.
            ConflictError: If a job that has not ended was given it.
        """
        with self._lock:
            self._library.drop(self._register.remove(id).file)

    def sweep(self) -> None:
        """Removes what a killed server left: files on their way, and files that lost their row or never had one."""
        with self._lock:
            held = {row.file for row in self._register.datasets()}
            left = left_behind(self._library.names(), held)
            for name in left:
                self._library.drop(name)
        if left:
            log.info("removed %d files of uploads that were not finished", len(left))
