"""The files of adapters: a job's adapter is in the job's directory, an uploaded one in a directory of its own.

Files are written before their row is added and removed after it, as with datasets; files that a crash leaves
without a row are removed at the next start.
"""

import logging
import shutil
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from server.store.adapters import AdapterRow, AdapterTable
from server.store.directory import OUTGOING, PARTIAL, DataDirectory, left_behind
from steerzo_edge.storage.files import sync_directory

log = logging.getLogger(__name__)


class AdapterFiles:
    """Directories of adapters.

    Args:
        directory: The data directory.
    """

    def __init__(self, directory: DataDirectory) -> None:
        self._directory = directory
        self._root = directory.root / "adapters"
        self._root.mkdir(exist_ok=True)

    def directory(self, row: AdapterRow) -> Path:
        """The path of an adapter's PEFT directory."""
        return self._root / row.id if row.job is None else self._directory.job(row.job) / "adapter"

    def fresh(self) -> Path:
        """A new directory for an adapter that is being received."""
        path = self._root / f".{uuid4().hex}{PARTIAL}"
        path.mkdir()
        return path

    def outgoing(self) -> Path:
        """A new directory for files that are sent and then deleted; it does not count towards the quota."""
        path = self._root / f"{OUTGOING}{uuid4().hex}{PARTIAL}"
        path.mkdir()
        return path

    def put(self, incoming: Path, id: str) -> None:
        """Moves a received adapter to its final directory.

        Raises:
            OSError: If the disk fails.
        """
        sync_directory(incoming)
        incoming.rename(self._root / id)
        sync_directory(self._root)

    def drop(self, row: AdapterRow) -> None:
        """Removes an adapter's files if they exist."""
        directory = self.directory(row)
        with suppress(FileNotFoundError):
            shutil.rmtree(directory)
            sync_directory(directory.parent)

    def sweep(self, table: AdapterTable) -> None:
        """Removes what a killed server left: unfinished directories, and directories without a row."""
        held = {row.id for row in table.rows() if row.job is None}
        left = left_behind([path.name for path in self._root.iterdir()], held)
        for name in left:
            shutil.rmtree(self._root / name, ignore_errors=True)
        if left:
            log.info("removed %d directories of unfinished adapters", len(left))
