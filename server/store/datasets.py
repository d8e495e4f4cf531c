"""The table of datasets: their names, files and facts."""

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
    """An uploaded dataset as stored.

    Args:
        id: Made by the server from the content and the name.
        name: The user's name for it.
        file: Its file's name inside the data directory.
        created: Seconds since the epoch.
        facts: Properties of its rows: format, count, lengths, and more.
    """

    id: str
    name: str
    file: str
    created: float
    facts: dict[str, Any]

    @property
    def benchmark(self) -> str | None:
        """The benchmark task whose rows it holds; None if the upload named none."""
        return self.facts.get("task")

    @property
    def format(self) -> str | None:
        """The format of its rows; None if a benchmark task determines it."""
        return None if self.benchmark is not None else self.facts["format"]

    @property
    def names(self) -> dict[str, str] | None:
        """Other names for the fields of its file; None if they are taken as they are."""
        return self.facts.get("map")


class DatasetTable:
    """The table of datasets.

    Args:
        database: The database that holds the table.
        now: Seconds since the epoch.
    """

    def __init__(self, database: Database, *, now: Callable[[], float] = time.time) -> None:
        self._database = database
        self._now = now

    def add(self, id: str, name: str, file: str, facts: Mapping[str, Any]) -> DatasetRow:
        """Adds an uploaded file; if the id is in the table already, its row stays as it is."""
        with self._database.writing() as db:
            db.execute(
                "INSERT OR IGNORE INTO datasets VALUES (?, ?, ?, ?, ?)",
                (id, name, file, self._now(), dumped(facts)),
            )
        return self.get(id)

    def get(self, id: str) -> DatasetRow:
        """One dataset.

        Raises:
            NotFoundError: If no dataset has this id.
        """
        row = self.find(id)
        if row is None:
            raise NotFoundError(f"there is no dataset {id!r}", hint="GET /datasets lists them; POST one first.")
        return row

    def find(self, id: str) -> DatasetRow | None:
        """The dataset with this id; None if there is none."""
        rows = self._database.rows("SELECT * FROM datasets WHERE id = ?", id)
        return _dataset(rows[0]) if rows else None

    @contextmanager
    def holding(self, *ids: str | None) -> Iterator[None]:
        """Keeps datasets from being removed while a job that names them is put into the queue.

        Args:
            ids: Ids of the datasets; None is skipped.

        Raises:
            NotFoundError: If one of them has been removed.
        """
        with self._database.alone():
            for id in ids:
                if id is not None:
                    self.get(id)
            yield

    def remove(self, id: str) -> DatasetRow:
        """Removes a dataset's row, unless a job still needs it.

        Returns:
            The removed row.

        Raises:
            NotFoundError: If no dataset has this id.
            ConflictError: If a job that has not ended uses it.
        """
        marks = ",".join("?" * len(FINAL))
        needed = (
            f"SELECT id, state FROM jobs WHERE state NOT IN ({marks})"
            " AND ? IN (json_extract(spec, '$.dataset'), json_extract(spec, '$.validation')) ORDER BY number"
        )
        with self._database.writing() as db:
            row = self.get(id)
            jobs = [f"{job['id']} ({job['state']})" for job in db.execute(needed, (*sorted(FINAL), id))]
            if jobs:
                raise ConflictError(
                    f"dataset {id} is needed by {', '.join(jobs[:5])}{' and others' if len(jobs) > 5 else ''}",
                    hint="Cancel these jobs, or wait until they have ended.",
                )
            db.execute("DELETE FROM datasets WHERE id = ?", (id,))
        return row

    def rows(self) -> list[DatasetRow]:
        """All datasets, newest first."""
        return [_dataset(row) for row in self._database.rows("SELECT * FROM datasets ORDER BY created DESC, id")]


def _dataset(row: sqlite3.Row) -> DatasetRow:
    return DatasetRow(row["id"], row["name"], row["file"], row["created"], json.loads(row["facts"]))
