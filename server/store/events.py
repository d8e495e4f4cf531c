"""The table of events: everything that happened to every job, in order.

The authoritative record of a running job's steps is its journal; after a crash missing events are added from it.
"""

import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from server.store.database import Database, dumped
from server.store.rows import Event, event_of
from steerzo_edge.records import Record


class EventTable:
    """The events of all jobs.

    Args:
        database: The database that holds the table.
        changed: Called with a job's id after each change of a job or its events, from the thread that wrote it.
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
        self._now = now
        self.changed = changed

    def insert(
        self, db: sqlite3.Connection, job: str, kind: str, step: int | None, data: Mapping[str, Any]
    ) -> None:
        """Adds an event inside the caller's transaction; the caller calls `changed` after the commit.

        Args:
            db: The connection, in a transaction.
            job: The job's id.
            kind: "state", "log", or the kind of a record.
            step: Set for steps and evaluations; an event of the same kind and step is left as it is.
            data: JSON-ready.
        """
        db.execute(
            "INSERT OR IGNORE INTO events (job, kind, step, at, data) VALUES (?, ?, ?, ?, ?)",
            (job, kind, step, self._now(), dumped(data)),
        )

    def add_records(self, job: str, records: Iterable[Record]) -> None:
        """Adds steps and evaluations; those that are stored already are skipped."""
        with self._database.writing() as db:
            for record in records:
                self.insert(db, job, record.kind, record.step, record.as_dict())
        self.changed(job)

    def add_log(self, job: str, message: str) -> None:
        """Adds a message for people."""
        with self._database.writing() as db:
            self.insert(db, job, "log", None, {"message": message})
        self.changed(job)

    def read(self, job: str, *, after: int = 0, kinds: Sequence[str] = (), limit: int = 1000) -> list[Event]:
        """Events of a job with `seq` above `after`, oldest first; a limit of -1 reads all."""
        marks = ",".join("?" * len(kinds))
        where = f"AND kind IN ({marks})" if kinds else ""
        query = f"SELECT * FROM events WHERE job = ? AND seq > ? {where} ORDER BY seq LIMIT ?"
        return [event_of(row) for row in self._database.rows(query, job, after, *kinds, limit)]

    def last(self, job: str, kind: str, count: int) -> list[Event]:
        """The last `count` events of one kind, oldest first."""
        query = "SELECT * FROM events WHERE job = ? AND kind = ? ORDER BY seq DESC LIMIT ?"
        return [event_of(row) for row in reversed(self._database.rows(query, job, kind, count))]

    def newest(self, job: str, *, before: int | None, limit: int) -> list[Event]:
        """Events of a job with `seq` below `before`, newest first."""
        query = "SELECT * FROM events WHERE job = ? AND (? IS NULL OR seq < ?) ORDER BY seq DESC LIMIT ?"
        return [event_of(row) for row in self._database.rows(query, job, before, before, limit)]

    def seconds(self, job: str) -> float:
        """Seconds that a job's steps and its search for settings took; prompts answered meanwhile do not count."""
        query = (
            "SELECT COALESCE(SUM(json_extract(data, '$.seconds')), 0) FROM events WHERE job = ? AND kind IN (?, ?)"
        )
        return float(self._database.rows(query, job, "step", "tune")[0][0])

    def of_step(self, job: str, step: int) -> Event | None:
        """The event of one step; None if the step has not been made."""
        query = "SELECT * FROM events WHERE job = ? AND kind = 'step' AND step = ?"
        return next(map(event_of, self._database.rows(query, job, step)), None)

    def seq_of_step(self, job: str, step: int) -> int:
        """The `seq` of the last step event up to `step`: a reader that has seen `step` continues after it."""
        query = "SELECT COALESCE(MAX(seq), 0) FROM events WHERE job = ? AND kind = 'step' AND step <= ?"
        return int(self._database.rows(query, job, step)[0][0])
