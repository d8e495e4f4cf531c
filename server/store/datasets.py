"""Which datasets there are: their names, files and facts."""

import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from server.store.database import Database, dumped
from server.store.states import FINAL
from steerzo_edge.errors import ConflictError, NotFoundError


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

    @property
    def format(self) -> str | None:
        """How its rows are written; None where a benchmark task says so."""
        return None if self.benchmark is not None else self.facts["format"]


class DatasetTable:
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
        row = self.find(id)
        if row is None:
            raise NotFoundError(f"there is no dataset {id!r}", hint="GET /datasets lists them; POST one first.")
        return row

    def find(self, id: str) -> DatasetRow | None:
        """One dataset, if there is one with this id."""
        rows = self._database.rows("SELECT * FROM datasets WHERE id = ?", id)
        return _dataset(rows[0]) if rows else None

    @contextmanager
    def holding(self, *ids: str | None) -> Iterator[None]:
        """Keeps datasets from being removed while a job that names them is put into the queue.

        Args:
            ids: Which; None stands for no dataset.

        Raises:
            NotFoundError: If one is gone.
        """
        with self._database.alone():
            for id in ids:
                if id is not None:
                    self.dataset(id)
            yield

    def remove(self, id: str) -> DatasetRow:
        """Forgets a dataset, unless a job still needs it.

        Returns:
            What was known of it.

        Raises:
            NotFoundError: If there is none with this id.
            ConflictError: If a job that has not ended was given it.
        """
        marks = ",".join("?" * len(FINAL))
        needed = (
            f"SELECT id, state FROM jobs WHERE state NOT IN ({marks})"
            " AND ? IN (json_extract(spec, '$.dataset'), json_extract(spec, '$.validation')) ORDER BY number"
        )
        with self._database.writing() as db:
            row = self.dataset(id)
            jobs = [f"{job['id']} ({job['state']})" for job in db.execute(needed, (*sorted(FINAL), id))]
            if jobs:
                raise ConflictError(
                    f"dataset {id} is needed by {', '.join(jobs[:5])}{' and others' if len(jobs) > 5 else ''}",
                    hint="Cancel these jobs, or wait until they have ended.",
                )
            db.execute("DELETE FROM datasets WHERE id = ?", (id,))
        return row

    def datasets(self) -> list[DatasetRow]:
        """All datasets, newest first."""
        return [_dataset(row) for row in self._database.rows("SELECT * FROM datasets ORDER BY created DESC, id")]


def _dataset(row: sqlite3.Row) -> DatasetRow:
    return DatasetRow(row["id"], row["name"], row["file"], row["created"], json.loads(row["facts"]))
