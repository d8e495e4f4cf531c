"""The files of adapters: those of jobs lie with their job, uploaded ones in a directory of their own.

As with datasets, files come before their row and go after it; what a crash leaves in between is removed at the next
start.
"""

import logging
import shutil
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from server.store.adapters import AdapterRow, AdapterTable
from server.store.directory import PARTIAL, PASSING, DataDirectory, left_behind
from steerzo_edge.storage.files import sync_directory

log = logging.getLogger(__name__)


class AdapterFiles:
    """Directories of adapters.

    Args:
        library: Where everything is.
    """

    def __init__(self, library: DataDirectory) -> None:
        self._library = library
        self._root = library.root / "adapters"
        self._root.mkdir(exist_ok=True)

    def directory(self, row: AdapterRow) -> Path:
        """Where an adapter's PEFT directory is."""
        return self._root / row.id if row.job is None else self._library.job(row.job) / "adapter"

    def fresh(self) -> Path:
        """A new directory for something on its way."""
        path = self._root / f".{uuid4().hex}{PARTIAL}"
        path.mkdir()
        return path

    def passing(self) -> Path:
        """A new directory for something that is sent and not kept."""
        path = self._root / f"{PASSING}{uuid4().hex}{PARTIAL}"
        path.mkdir()
        return path

    def put(self, incoming: Path, id: str) -> None:
        """Gives an uploaded adapter its place.

        Raises:
            OSError: If the disk fails.
        """
        sync_directory(incoming)
        incoming.rename(self._root / id)
        sync_directory(self._root)

    def drop(self, row: AdapterRow) -> None:
        """Removes an adapter's files, if they are there."""
        directory = self.directory(row)
        with suppress(FileNotFoundError):
            shutil.rmtree(directory)
            sync_directory(directory.parent)

    def sweep(self, register: AdapterTable) -> None:
        """Removes what a killed server left: directories on their way, and those without a row."""
        held = {row.id for row in register.rows() if row.job is None}
        left = left_behind([path.name for path in self._root.iterdir()], held)
        for name in left:
            shutil.rmtree(self._root / name, ignore_errors=True)
        if left:
            log.info("removed %d directories of adapters that were not finished", len(left))
