"""What the server knows, in SQLite: datasets, jobs, and every event of every job.

One connection behind a lock, write-ahead log, synchronous=FULL: what was answered is on the disk. The journal
of a running job stays the truth about its steps; after a crash the events are completed from it.
"""

import json
import math
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server.jobs.states import FINAL, State, check
from steerzo_edge.errors import ConflictError, NotFoundError
from steerzo_edge.records import Record

SCHEMA = """
CREATE TABLE IF NOT EXISTS datasets (
  id TEXT PRIMARY KEY, name TEXT NOT NULL, file TEXT NOT NULL, created REAL NOT NULL, facts TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS jobs (
  id TEXT PRIMARY KEY, number INTEGER NOT NULL UNIQUE, name TEXT NOT NULL UNIQUE, state TEXT NOT NULL,
  created REAL NOT NULL, spec TEXT NOT NULL, result TEXT, error TEXT, idempotency_key TEXT UNIQUE
);
CREATE TABLE IF NOT EXISTS events (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, job TEXT NOT NULL REFERENCES jobs(id), kind TEXT NOT NULL,
  step INTEGER, at REAL NOT NULL, data TEXT NOT NULL, UNIQUE (job, kind, step)
);
CREATE INDEX IF NOT EXISTS events_of_job ON events (job, seq);
"""


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


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job as stored; `spec` is what it was asked for, resolved."""

    id: str
    number: int
    name: str
    state: State
    created: float
    spec: dict[str, Any]
    result: dict[str, Any] | None
    error: dict[str, Any] | None

    @property
    def is_final(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in FINAL


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a job; `seq` orders all of them, `step` is set on steps and evaluations."""

    seq: int
    kind: str
    step: int | None
    at: float
    data: dict[str, Any]


class Store:
    """The database.

    Args:
        path: Of the file; made if missing.
        changed: Called with a job's id after each event, from whichever thread wrote it.
        now: Seconds since the epoch.
    """

    def __init__(
        self,
        path: Path,
        *,
        changed: Callable[[str], None] = lambda job: None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._lock = threading.RLock()
        self._changed = changed
        self._now = now
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._connection.row_factory = sqlite3.Row
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=FULL")
        self._connection.execute("PRAGMA foreign_keys=ON")
        self._connection.executescript(SCHEMA)

    def close(self) -> None:
        """Closes the database."""
        with self._lock:
            self._connection.close()

    def add_dataset(self, id: str, name: str, file: str, facts: Mapping[str, Any]) -> DatasetRow:
        """Registers an uploaded file; one with this id stays as it is."""
        with self._writing() as db:
            db.execute(
                "INSERT OR IGNORE INTO datasets VALUES (?, ?, ?, ?, ?)",
                (id, name, file, self._now(), _dumped(facts)),
            )
        return self.dataset(id)

    def dataset(self, id: str) -> DatasetRow:
        """One dataset.

        Raises:
            NotFoundError: If there is none with this id.
        """
        rows = self._rows("SELECT * FROM datasets WHERE id = ?", id)
        if not rows:
            raise NotFoundError(f"there is no dataset {id!r}", hint="GET /datasets lists them; POST one first.")
        return _dataset(rows[0])

    def datasets(self) -> list[DatasetRow]:
        """All datasets, newest first."""
        return [_dataset(row) for row in self._rows("SELECT * FROM datasets ORDER BY created DESC, id")]

    def add_job(
        self, id: str, name: str | None, spec: Mapping[str, Any], idempotency_key: str | None = None
    ) -> JobRow:
        """Puts a job into the queue.

        Args:
            id: Made by the server.
            name: Unique among jobs; by default made from its number.
            spec: What to do.
            idempotency_key: A second job with the same key is not made; the first is returned.

        Raises:
            ConflictError: If the name is taken, or the key came with another request.
        """
        with self._writing() as db:
            if idempotency_key is not None:
                found = db.execute("SELECT * FROM jobs WHERE idempotency_key = ?", (idempotency_key,)).fetchone()
                if found is not None:
                    return _same_request(_job(found), spec)
            number = db.execute("SELECT COALESCE(MAX(number), 0) + 1 FROM jobs").fetchone()[0]
            name = name or f"job-{number}"
            if db.execute("SELECT 1 FROM jobs WHERE name = ? OR id = ?", (name, name)).fetchone():
                raise ConflictError(f"there is a job named {name!r} already", hint="Choose another name.")
            db.execute(
                "INSERT INTO jobs VALUES (?, ?, ?, 'queued', ?, ?, NULL, NULL, ?)",
                (id, number, name, self._now(), _dumped(spec), idempotency_key),
            )
            self._insert_event(db, id, "state", None, {"state": "queued"})
        self._changed(id)
        return self.job(id)

    def job(self, id_or_name: str) -> JobRow:
        """One job, by id or by name.

        Raises:
            NotFoundError: If there is none.
        """
        rows = self._rows("SELECT * FROM jobs WHERE id = ? OR name = ?", id_or_name, id_or_name)
        if not rows:
            raise NotFoundError(f"there is no job {id_or_name!r}", hint="GET /jobs lists them.")
        return _job(rows[0])

    def jobs(self, *states: State) -> list[JobRow]:
        """Jobs in the order they came, all or those in certain states."""
        marks = ",".join("?" * len(states))
        where = f"WHERE state IN ({marks})" if states else ""
        return [_job(row) for row in self._rows(f"SELECT * FROM jobs {where} ORDER BY number", *states)]

    def change_state(
        self,
        id: str,
        state: State,
        *,
        result: Mapping[str, Any] | None = None,
        error: Mapping[str, Any] | None = None,
    ) -> JobRow:
        """Moves a job to another state and says so in its events, in one transaction.

        Raises:
            ConflictError: If the table of states does not allow it.
        """
        with self._writing() as db:
            old = self.job(id)
            check(id, old.state, state)
            db.execute(
                "UPDATE jobs SET state = ?, result = COALESCE(?, result), error = ? WHERE id = ?",
                (state, result and _dumped(result), error and _dumped(error), id),
            )
            self._insert_event(db, id, "state", None, {"state": state} | ({"error": dict(error)} if error else {}))
        self._changed(id)
        return self.job(id)

    def add_records(self, job: str, records: Iterable[Record]) -> None:
        """Adds steps and evaluations; those already there are passed over."""
        with self._writing() as db:
            for record in records:
                self._insert_event(db, job, record.kind, record.step, record.as_dict())
        self._changed(job)

    def add_log(self, job: str, message: str) -> None:
        """Adds a sentence for people."""
        with self._writing() as db:
            self._insert_event(db, job, "log", None, {"message": message})
        self._changed(job)

    def events(self, job: str, *, after: int = 0, kinds: Sequence[str] = (), limit: int = 1000) -> list[Event]:
        """Events of a job with `seq` above `after`, oldest first."""
        marks = ",".join("?" * len(kinds))
        where = f"AND kind IN ({marks})" if kinds else ""
        query = f"SELECT * FROM events WHERE job = ? AND seq > ? {where} ORDER BY seq LIMIT ?"
        return [_event(row) for row in self._rows(query, job, after, *kinds, limit)]

    def last_events(self, job: str, kind: str, count: int) -> list[Event]:
        """The last events of one kind, oldest first."""
        query = "SELECT * FROM events WHERE job = ? AND kind = ? ORDER BY seq DESC LIMIT ?"
        return [_event(row) for row in reversed(self._rows(query, job, kind, count))]

    def seq_of_step(self, job: str, step: int) -> int:
        """The position in the events behind which a reader that has seen `step` goes on."""
        query = "SELECT COALESCE(MAX(seq), 0) FROM events WHERE job = ? AND kind = 'step' AND step <= ?"
        return int(self._rows(query, job, step)[0][0])

    def _rows(self, query: str, *values: Any) -> list[sqlite3.Row]:
        with self._lock:
            return self._connection.execute(query, values).fetchall()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def _insert_event(
        self, db: sqlite3.Connection, job: str, kind: str, step: int | None, data: Mapping[str, Any]
    ) -> None:
        db.execute(
            "INSERT OR IGNORE INTO events (job, kind, step, at, data) VALUES (?, ?, ?, ?, ?)",
            (job, kind, step, self._now(), _dumped(data)),
        )


def _dumped(value: Mapping[str, Any]) -> str:
    """JSON without nan and inf, which JSON lacks: they become null."""
    clean = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in value.items()}
    return json.dumps(clean, allow_nan=False)


def _same_request(job: JobRow, spec: Mapping[str, Any]) -> JobRow:
    if job.spec != json.loads(_dumped(spec)):
        raise ConflictError(
            f"the idempotency key was used for job {job.id}, which asked for something else",
            hint="Send a new key for a new request.",
        )
    return job


def _dataset(row: sqlite3.Row) -> DatasetRow:
    return DatasetRow(row["id"], row["name"], row["file"], row["created"], json.loads(row["facts"]))


def _job(row: sqlite3.Row) -> JobRow:
    result, error = (row[name] and json.loads(row[name]) for name in ("result", "error"))
    spec = json.loads(row["spec"])
    return JobRow(row["id"], row["number"], row["name"], row["state"], row["created"], spec, result, error)


def _event(row: sqlite3.Row) -> Event:
    return Event(row["seq"], row["kind"], row["step"], row["at"], json.loads(row["data"]))
