"""The files of a server: uploads, and a directory for each job. The server makes up all file names itself."""

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
# Prefix of directories whose files are sent and then deleted; they do not count towards the quota.
OUTGOING = ".passing-"
# Packed copies of bases, which have a limit of their own and do not count towards the quota either.
PACKED = "packed"


def left_behind(names: Iterable[str], held: Collection[str]) -> list[str]:
    """What a killed server left: unfinished files, and files that the database does not know.

    Args:
        names: Names of the files that exist.
        held: Names that the database knows. If it knows none, it may be a new database next to the files of an
            older one, so only unfinished files are listed.
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
        """The directories of all jobs, including those that the database does not know."""
        return [path for path in (self.root / "jobs").iterdir() if path.is_dir()]

    def incoming(self) -> Path:
        """A fresh path for a file that is being received; the next start removes it if the server is killed."""
        return self.root / "datasets" / f".{uuid4().hex}{PARTIAL}"

    def stage(self, data: bytes) -> tuple[Path, str]:
        """Writes data to a fresh incoming file.

        Returns:
            Its path, and its sha256 in hex.

        Raises:
            OSError: If the disk is full or fails; no file is left behind.
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
        """Moves an incoming file to its final name.

        Raises:
            OSError: If the disk fails.
        """
        incoming.replace(self.root / "datasets" / name)
        sync_directory(self.root / "datasets")

    def drop(self, name: str) -> None:
        """Removes an upload if it exists."""
        (self.root / "datasets" / name).unlink(missing_ok=True)
        sync_directory(self.root / "datasets")

    def names(self) -> list[str]:
        """Names of all uploaded files, including those still being received."""
        return sorted(path.name for path in (self.root / "datasets").iterdir() if path.is_file())

    def read(self, row: DatasetRow, task: Task | None, first: int | None = None) -> Dataset:
        """Reads an upload again.

        Args:
            row: The dataset.
            task: The prompt and options for labelled rows.
            first: How many rows to read; None reads all.

        Raises:
            NotFoundError: If the file was deleted meanwhile.
            TaskError: If a task is given although the rows are a benchmark's, which has its own.
        """
        data = self.bytes_of(row)
        return read_dataset(
            data,
            name=row.file,
            task=task,
            benchmark=row.benchmark,
            format=row.format,
            first=first,
            names=row.names,
        )

    def bytes_of(self, row: DatasetRow) -> bytes:
        """An upload's bytes, unchanged.

        Raises:
            NotFoundError: If the file was deleted meanwhile.
        """
        try:
            return (self.root / "datasets" / row.file).read_bytes()
        except FileNotFoundError:
            raise NotFoundError(
                f"the rows of dataset {row.id!r} are missing", hint="Upload the file again."
            ) from None
