"""The files of a server: uploads, and a directory for each job. All names are the server's own."""

from pathlib import Path

from server.data.register import DatasetRow
from steerzo_edge.data.examples import Dataset
from steerzo_edge.data.reading import read_dataset
from steerzo_edge.data.task import Task
from steerzo_edge.files import write_whole


class Library:
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

    def keep(self, id: str, data: bytes, *, csv: bool) -> str:
        """Stores an upload; returns its file name."""
        name = f"{id}.csv" if csv else f"{id}.jsonl"
        write_whole(self.root / "datasets" / name, lambda path: _write(path, data))
        return name

    def read(self, row: DatasetRow, task: Task | None) -> Dataset:
        """Reads an upload again.

        Raises:
            TaskError: If the task is given and the rows are a benchmark's, which brings its own.
        """
        return read_dataset(self.bytes_of(row), name=row.file, task=task, benchmark=row.benchmark)

    def bytes_of(self, row: DatasetRow) -> bytes:
        """An upload as it came."""
        return (self.root / "datasets" / row.file).read_bytes()


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)
