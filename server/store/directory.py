"""The files of a server: uploads, and a directory for each job. All names are the server's own."""

import hashlib
import os
from collections.abc import Collection, Iterable
from pathlib import Path
from uuid import uuid4

from server.store.datasets import DatasetRow
from steerzo_edge.data.examples import Dataset
from steerzo_edge.data.reading import read_dataset
from steerzo_edge.data.task import Task
from steerzo_edge.errors import NotFoundError
from steerzo_edge.storage.files import sync_directory

PARTIAL = ".partial"
# Begins the names of what is sent and not kept: no part of what the data directory holds.
PASSING = ".passing-"


def left_behind(names: Iterable[str], held: Collection[str]) -> list[str]:
    """What a killed server left: names of files on their way, and names that nobody knows.

    Args:
        names: Of what is there.
        held: What the database knows. If it knows nothing at all, it may be a new one beside old files: those are
            not ours to judge, and only what was on its way is named.
    """
    return [name for name in names if name.endswith(PARTIAL) or (held and name not in held)]


class DataDirectory:
    """Paths inside the data directory.

    Args:
        root: The data directory; made if missing.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        for directory in (root / "datasets", root / "jobs"):
            directory.mkdir(parents=True, exist_ok=True)

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.root / "steerzo.sqlite"

    def job(self, id: str) -> Path:
        """A job's directory."""
        return self.root / "jobs" / id

    def job_directories(self) -> list[Path]:
        """Those of all jobs, also of jobs that nobody knows any more."""
        return [path for path in (self.root / "jobs").iterdir() if path.is_dir()]

    def incoming(self) -> Path:
        """A fresh name for a file on its way; what a killed server leaves there is removed at the next start."""
        return self.root / "datasets" / f".{uuid4().hex}{PARTIAL}"

    def stage(self, data: bytes) -> tuple[Path, str]:
        """Writes a file that is to be taken over.

        Returns:
            Where it is, and its sha256 in hex.

        Raises:
            OSError: If the disk is full or fails; no file is left then.
        """
        path = self.incoming()
        try:
            with path.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return path, hashlib.sha256(data).hexdigest()

    def put(self, incoming: Path, name: str) -> None:
        """Gives a file that has come its place.

        Raises:
            OSError: If the disk fails.
        """
        incoming.replace(self.root / "datasets" / name)
        sync_directory(self.root / "datasets")

    def drop(self, name: str) -> None:
        """Removes an upload, if it is there."""
        (self.root / "datasets" / name).unlink(missing_ok=True)
        sync_directory(self.root / "datasets")

    def names(self) -> list[str]:
        """Every file among the uploads, those on their way included."""
        return sorted(path.name for path in (self.root / "datasets").iterdir() if path.is_file())

    def read(self, row: DatasetRow, task: Task | None, first: int | None = None) -> Dataset:
        """Reads an upload again.

        Args:
            row: What is known of it.
            task: How labelled rows are put to the model.
            first: How many rows to read; None reads all.

        Raises:
            NotFoundError: If it was deleted meanwhile.
            TaskError: If the task is given and the rows are a benchmark's, which brings its own.
        """
        data = self.bytes_of(row)
        return read_dataset(data, name=row.file, task=task, benchmark=row.benchmark, format=row.format, first=first)

    def bytes_of(self, row: DatasetRow) -> bytes:
        """An upload as it came.

        Raises:
            NotFoundError: If it was deleted meanwhile.
        """
        try:
            return (self.root / "datasets" / row.file).read_bytes()
        except FileNotFoundError:
            raise NotFoundError(f"the rows of dataset {row.id!r} are gone", hint="Upload the file again.") from None
