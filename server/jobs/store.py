"""Jobs, and every event of every job.

The journal of a running job stays the truth about its steps; after a crash the events are completed from it.
"""

import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from server.database import Database, dumped
from server.jobs.states import FINAL, State, check
from steerzo_edge.errors import ConflictError, NotFoundError
from steerzo_edge.records import Record


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
    """The jobs and their events.

    Args:
        database: Where they are.
        changed: Called with a job's id after each event, from whichever thread wrote it.
        now: Seconds since the epoch.
    """

    def __init__(
        self,
        database: Database,
        *,
        changed: Callable[[str], None] = lambda job: None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._changed = changed
        self._now = now

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
        with self._database.writing() as db:
            if idempotency_key is not None:
                found = db.execute("SELECT * FROM jobs WHERE idempotency_key = ?", (idempotency_key,)).fetchone()
                if found is not None:
                    return _same_request(_job(found), spec)
            number = db.execute("SELECT COALESCE(MAX(number), 0) + 1 FROM jobs").fetchone()[0]
            name = name or f"job-{number}"
            if db.execute("SELECT 1 FROM jobs WHERE name = ? OR id = ?", (name, name)).fetchone():
                raise ConflictError(f"there is a job named {name!r} already", hint="Choose another name.")
            db.execute(
                "INSERT INTO jobs (id, number, name, state, created, spec, idempotency_key)"
                " VALUES (?, ?, ?, 'queued', ?, ?, ?)",
                (id, number, name, self._now(), dumped(spec), idempotency_key),
            )
            self._insert_event(db, id, "state", None, {"state": "queued"})
        self._changed(id)
        return self.job(id)

    def job(self, id_or_name: str) -> JobRow:
        """One job, by id or by name.

        Raises:
            NotFoundError: If there is none.
        """
        rows = self._database.rows("SELECT * FROM jobs WHERE id = ? OR name = ?", id_or_name, id_or_name)
        if not rows:
            raise NotFoundError(f"there is no job {id_or_name!r}", hint="GET /jobs lists them.")
        return _job(rows[0])

    def jobs(self, *states: State) -> list[JobRow]:
        """Jobs in the order they came, all or those in certain states."""
        marks = ",".join("?" * len(states))
        where = f"WHERE state IN ({marks})" if states else ""
        return [_job(row) for row in self._database.rows(f"SELECT * FROM jobs {where} ORDER BY number", *states)]

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
        with self._database.writing() as db:
            old = self.job(id)
            check(id, old.state, state)
            db.execute(
                "UPDATE jobs SET state = ?, result = COALESCE(?, result), error = ? WHERE id = ?",
                (state, result and dumped(result), error and dumped(error), id),
            )
            self._insert_event(db, id, "state", None, {"state": state} | ({"error": dict(error)} if error else {}))
        self._changed(id)
        return self.job(id)

    def add_records(self, job: str, records: Iterable[Record]) -> None:
        """Adds steps and evaluations; those already there are passed over."""
        with self._database.writing() as db:
            for record in records:
                self._insert_event(db, job, record.kind, record.step, record.as_dict())
        self._changed(job)

    def add_log(self, job: str, message: str) -> None:
        """Adds a sentence for people."""
        with self._database.writing() as db:
            self._insert_event(db, job, "log", None, {"message": message})
        self._changed(job)

    def events(self, job: str, *, after: int = 0, kinds: Sequence[str] = (), limit: int = 1000) -> list[Event]:
        """Events of a job with `seq` above `after`, oldest first."""
        marks = ",".join("?" * len(kinds))
        where = f"AND kind IN ({marks})" if kinds else ""
        query = f"SELECT * FROM events WHERE job = ? AND seq > ? {where} ORDER BY seq LIMIT ?"
        return [_event(row) for row in self._database.rows(query, job, after, *kinds, limit)]

    def last_events(self, job: str, kind: str, count: int) -> list[Event]:
        """The last events of one kind, oldest first."""
        query = "SELECT * FROM events WHERE job = ? AND kind = ? ORDER BY seq DESC LIMIT ?"
        return [_event(row) for row in reversed(self._database.rows(query, job, kind, count))]

    def seq_of_step(self, job: str, step: int) -> int:
        """The position in the events behind which a reader that has seen `step` goes on."""
        query = "SELECT COALESCE(MAX(seq), 0) FROM events WHERE job = ? AND kind = 'step' AND step <= ?"
        return int(self._database.rows(query, job, step)[0][0])

    def _insert_event(
        self, db: sqlite3.Connection, job: str, kind: str, step: int | None, data: Mapping[str, Any]
    ) -> None:
        db.execute(
            "INSERT OR IGNORE INTO events (job, kind, step, at, data) VALUES (?, ?, ?, ?, ?)",
            (job, kind, step, self._now(), dumped(data)),
        )


def _same_request(job: JobRow, spec: Mapping[str, Any]) -> JobRow:
    if job.spec != json.loads(dumped(spec)):
        raise ConflictError(
            f"the idempotency key was used for job {job.id}, which asked for something else",
            hint="Send a new key for a new request.",
        )
    return job


def _job(row: sqlite3.Row) -> JobRow:
    result, error = (row[name] and json.loads(row[name]) for name in ("result", "error"))
    spec = json.loads(row["spec"])
    return JobRow(row["id"], row["number"], row["name"], row["state"], row["created"], spec, result, error)


def _event(row: sqlite3.Row) -> Event:
    return Event(row["seq"], row["kind"], row["step"], row["at"], json.loads(row["data"]))
