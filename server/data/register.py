"""Which datasets there are: their names, files and facts."""

import json
import sqlite3
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from server.database import Database, dumped
from steerzo_edge.errors import NotFoundError


@dataclass(frozen=True, slots=True)
class DatasetRow:
    """An uploaded dataset: its file's name inside the data directory, and what was found in it."""

    id: str
    name: str
    file: str
    created: float
    facts: dict[str, Any]

    @property
    def benchmark(self) -> str | None:
        """The benchmark task whose rows it holds, if it was said to."""
        return self.facts.get("task")


class Register:
    """The table of datasets.

    Args:
        database: Where it is.
        now: Seconds since the epoch.
    """

    def __init__(self, database: Database, *, now: Callable[[], float] = time.time) -> None:
        self._database = database
        self._now = now

    def add(self, id: str, name: str, file: str, facts: Mapping[str, Any]) -> DatasetRow:
        """Registers an uploaded file; one with this id stays as it is."""
        with self._database.writing() as db:
            db.execute(
                "INSERT OR IGNORE INTO datasets VALUES (?, ?, ?, ?, ?)",
                (id, name, file, self._now(), dumped(facts)),
            )
        return self.dataset(id)

    def dataset(self, id: str) -> DatasetRow:
        """One dataset.

        Raises:
            NotFoundError: If there is none with this id.
        """
        rows = self._database.rows("SELECT * FROM datasets WHERE id = ?", id)
        if not rows:
            raise NotFoundError(f"there is no dataset {id!r}", hint="GET /datasets lists them; POST one first.")
        return _dataset(rows[0])

    def datasets(self) -> list[DatasetRow]:
        """All datasets, newest first."""
        return [_dataset(row) for row in self._database.rows("SELECT * FROM datasets ORDER BY created DESC, id")]


def _dataset(row: sqlite3.Row) -> DatasetRow:
    return DatasetRow(row["id"], row["name"], row["file"], row["created"], json.loads(row["facts"]))
