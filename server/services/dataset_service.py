"""Adds and removes datasets, each a row in the table and a file in the data directory.

The file is written before its row is added and removed after it, so that a crash in between may leave a file
without a row, never a row without its file. Files without a row are removed at the next start.
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
        table: Their rows.
        directory: Their files.
    """

    def __init__(self, table: DatasetTable, directory: DataDirectory) -> None:
        self._table = table
        self._directory = directory
        # The same upload gets the same file name: it must not be written while another request removes it.
        self._lock = threading.Lock()

    def add(self, id: str, name: str, incoming: Path, suffix: str, facts: Mapping[str, Any]) -> DatasetRow:
        """Adds a dataset and moves its file to its place; a dataset that has this id already stays as it is.

        Args:
            id: Made by the server.
            name: The user's name for it.
            incoming: Path of its file, synced to the disk.
            suffix: Suffix of the stored file's name, with the dot.
            facts: Properties of its rows.

        Raises:
            OSError: If the disk is full or fails; nothing was added.
            sqlite3.OperationalError: If the database cannot be written; nothing was added.
        """
        file = f"{id}{suffix}"
        with self._lock:
            held = self._table.find(id)
            if held is not None:
                return held
            self._directory.put(incoming, file)
            try:
                return self._table.add(id, name, file, facts)
            except BaseException:
                self._directory.drop(file)
                raise

    def remove(self, id: str) -> None:
        """Deletes a dataset.

        Raises:
            NotFoundError: If no dataset has this id.
            ConflictError: If a job that has not ended uses it.
        """
        with self._lock:
            self._directory.drop(self._table.remove(id).file)

    def sweep(self) -> None:
        """Removes what a killed server left: unfinished uploads, and files without a row."""
        with self._lock:
            held = {row.file for row in self._table.rows()}
            left = left_behind(self._directory.names(), held)
            for name in left:
                self._directory.drop(name)
        if left:
            log.info("removed %d files of unfinished uploads", len(left))
