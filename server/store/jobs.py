"""Jobs, and every event of every job.

The journal of a running job stays the truth about its steps; after a crash the events are completed from it.
"""

import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count
from typing import Any

from server.store.adapters import enlist, taken_names
from server.store.database import Database, dumped
from server.store.rows import Event, JobRow, event_of, job_of
from server.store.states import FINAL, GOAL, State, Wish, check
from steerzo_edge.errors import BusyError, ConflictError, NotFoundError
from steerzo_edge.records import Record


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
        self,
        id: str,
        name: str | None,
        spec: Mapping[str, Any],
        idempotency_key: str | None = None,
        *,
        priority: int = 0,
        max_waiting: int | None = None,
    ) -> JobRow:
        """Puts a job into the queue.

        Args:
            id: Made by the server.
            name: Unique among jobs and adapters; by default made from its number.
            spec: What to do.
            idempotency_key: A second job with the same key is not made; the first is returned.
            priority: Higher ones first.
            max_waiting: Jobs that may wait.

        Raises:
            ConflictError: If the name is taken, or the key came with another request.
            BusyError: If too many wait already.
        """
        with self._database.writing() as db:
            if idempotency_key is not None:
                found = db.execute("SELECT * FROM jobs WHERE idempotency_key = ?", (idempotency_key,)).fetchone()
                if found is not None:
                    return same_request(job_of(found), spec)
            waiting = db.execute("SELECT COUNT(*) FROM jobs WHERE state = 'queued'").fetchone()[0]
            if max_waiting is not None and waiting >= max_waiting:
                raise BusyError(f"{max_waiting} jobs are waiting already")
            number = db.execute("SELECT COALESCE(MAX(number), 0) + 1 FROM jobs").fetchone()[0]
            taken = taken_names(db)
            if name is None:
                # Somebody may have called a job job-7 before there were seven.
                name = next(free for more in count(number) if (free := f"job-{more}") not in taken)
            if name in taken:
                raise ConflictError(
                    f"there is a job or an adapter named {name!r} already", hint="Choose another name."
                )
            db.execute(
                "INSERT INTO jobs (id, number, name, state, created, spec, idempotency_key, priority)"
                " VALUES (?, ?, ?, 'queued', ?, ?, ?, ?)",
                (id, number, name, self._now(), dumped(spec), idempotency_key, priority),
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
        return job_of(rows[0])

    def job_of_key(self, idempotency_key: str) -> JobRow | None:
        """The job that was made with a key."""
        rows = self._database.rows("SELECT * FROM jobs WHERE idempotency_key = ?", idempotency_key)
        return job_of(rows[0]) if rows else None

    def jobs(self, *states: State) -> list[JobRow]:
        """Jobs in the order they came, all or those in certain states."""
        marks = ",".join("?" * len(states))
        where = f"WHERE state IN ({marks})" if states else ""
        return [job_of(row) for row in self._database.rows(f"SELECT * FROM jobs {where} ORDER BY number", *states)]

    def page(self, *, before: int | None, limit: int, state: State | None = None) -> list[JobRow]:
        """Jobs with a number below `before`, newest first."""
        query = "SELECT * FROM jobs WHERE (? IS NULL OR number < ?) AND (? IS NULL OR state = ?)"
        rows = self._database.rows(f"{query} ORDER BY number DESC LIMIT ?", before, before, state, state, limit)
        return [job_of(row) for row in rows]

    def count(self, *states: State) -> int:
        """How many jobs are in certain states."""
        marks = ",".join("?" * len(states))
        return int(self._database.rows(f"SELECT COUNT(*) FROM jobs WHERE state IN ({marks})", *states)[0][0])

    def ahead_of(self, job: JobRow) -> int:
        """How many jobs run, or wait in front of a waiting one."""
        query = (
            "SELECT COUNT(*) FROM jobs WHERE state = 'running'"
            " OR (state = 'queued' AND (priority > ? OR (priority = ? AND number < ?)))"
        )
        return int(self._database.rows(query, job.priority, job.priority, job.number)[0][0])

    def unkept(self) -> list[JobRow]:
        """Jobs that have made steps, do not go on, and have made no adapter of them."""
        query = (
            "SELECT * FROM jobs WHERE state IN ('paused', 'cancelled') AND result IS NULL"
            " AND EXISTS (SELECT 1 FROM events WHERE job = jobs.id AND kind = 'step')"
        )
        return [job_of(row) for row in self._database.rows(query)]

    def next_job(self) -> JobRow | None:
        """The job whose turn it is: those with a wish, then by priority, then by age."""
        query = (
            "SELECT * FROM jobs WHERE state = 'queued' AND (not_before <= ? OR wish IS NOT NULL)"
            " ORDER BY wish IS NULL, priority DESC, number LIMIT 1"
        )
        rows = self._database.rows(query, self._now())
        return job_of(rows[0]) if rows else None

    def change_state(
        self,
        id: str,
        state: State,
        *,
        result: Mapping[str, Any] | None = None,
        error: Mapping[str, Any] | None = None,
    ) -> JobRow:
        """Moves a job to another state and says so in its events, in one transaction.

        Args:
            id: The job's.
            state: The new one.
            result: What it has made, from now on.
            error: What it failed with; None forgets an older one.

        Raises:
            ConflictError: If the table of states does not allow it.
        """
        with self._database.writing() as db:
            self._move(db, id, state, result=result, error=error)
        self._changed(id)
        return self.job(id)

    def try_again(self, id: str, error: Mapping[str, Any], in_s: float) -> JobRow:
        """Puts a running job back into the queue, with one more attempt behind it.

        In one transaction: a disk that takes half of it must not leave the job between two states.

        Args:
            id: The job's.
            error: What this attempt ended with.
            in_s: Seconds until the next may begin.

        Raises:
            ConflictError: If it does not run.
        """
        with self._database.writing() as db:
            self._move(db, id, "interrupted", error=error)
            self._move(db, id, "queued", error=error)
            update = "UPDATE jobs SET attempts = attempts + 1, not_before = ? WHERE id = ?"
            db.execute(update, (self._now() + in_s, id))
        self._changed(id)
        return self.job(id)

    def ask(self, id: str, wish: Wish) -> JobRow:
        """Has a job paused or cancelled: at once if it waits, else at the end of its present step.

        What was asked of a running job outlasts a crash.

        Raises:
            ConflictError: If its state does not allow it, or it is being cancelled already.
        """
        with self._database.writing() as db:
            job = self.job(id)
            if job.wish == "cancel" and wish == "pause":
                raise ConflictError(f"job {id} is being cancelled")
            if job.state == "running":
                db.execute("UPDATE jobs SET wish = ? WHERE id = ?", (wish, id))
            else:
                self._move(db, id, GOAL[wish])
        self._changed(id)
        return self.job(id)

    def resume(self, id: str) -> JobRow:
        """Puts a paused or failed job back into the queue, at its old place; one not yet paused goes on.

        Raises:
            ConflictError: If its state does not allow it.
        """
        with self._database.writing() as db:
            job = self.job(id)
            if job.state == "running" and job.wish == "pause":
                db.execute("UPDATE jobs SET wish = NULL WHERE id = ?", (id,))
            else:
                self._move(db, id, "queued")
        self._changed(id)
        return self.job(id)

    def wish(self, id: str) -> Wish | None:
        """What is to happen to a running job at the end of its present step."""
        wish: Wish | None = self._database.rows("SELECT wish FROM jobs WHERE id = ?", id)[0][0]
        return wish

    def went_well(self, id: str) -> None:
        """Forgets earlier attempts: a step has been finished since."""
        with self._database.writing() as db:
            db.execute("UPDATE jobs SET attempts = 0 WHERE id = ?", (id,))

    def set_result(self, id: str, result: Mapping[str, Any]) -> None:
        """Notes what a job has made, without a change of its state."""
        with self._database.writing() as db:
            db.execute("UPDATE jobs SET result = ? WHERE id = ?", (dumped(result), id))
            enlist(db, id, result, self._now())
        self._changed(id)

    def delete(self, id: str) -> None:
        """Forgets a job and its events.

        Raises:
            ConflictError: If it runs.
        """
        with self._database.writing() as db:
            job = self.job(id)
            if job.state in ("running", "interrupted"):
                raise ConflictError(f"job {id} is {job.state}", hint=f"POST /jobs/{id}/cancel first.")
            db.execute("DELETE FROM events WHERE job = ?", (id,))
            db.execute("DELETE FROM jobs WHERE id = ?", (id,))
        self._changed(id)

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
        return [event_of(row) for row in self._database.rows(query, job, after, *kinds, limit)]

    def last_events(self, job: str, kind: str, count: int) -> list[Event]:
        """The last events of one kind, oldest first."""
        query = "SELECT * FROM events WHERE job = ? AND kind = ? ORDER BY seq DESC LIMIT ?"
        return [event_of(row) for row in reversed(self._database.rows(query, job, kind, count))]

    def newest_events(self, job: str, *, before: int | None, limit: int) -> list[Event]:
        """Events of a job with `seq` below `before`, newest first."""
        query = "SELECT * FROM events WHERE job = ? AND (? IS NULL OR seq < ?) ORDER BY seq DESC LIMIT ?"
        return [event_of(row) for row in self._database.rows(query, job, before, before, limit)]

    def step_event(self, job: str, step: int) -> Event | None:
        """The event of one step, if it has been made."""
        query = "SELECT * FROM events WHERE job = ? AND kind = 'step' AND step = ?"
        return next(map(event_of, self._database.rows(query, job, step)), None)

    def seq_of_step(self, job: str, step: int) -> int:
        """The position in the events behind which a reader that has seen `step` goes on."""
        query = "SELECT COALESCE(MAX(seq), 0) FROM events WHERE job = ? AND kind = 'step' AND step <= ?"
        return int(self._database.rows(query, job, step)[0][0])

    def _move(
        self,
        db: sqlite3.Connection,
        id: str,
        state: State,
        *,
        result: Mapping[str, Any] | None = None,
        error: Mapping[str, Any] | None = None,
    ) -> None:
        check(id, self.job(id).state, state)
        now = self._now()
        db.execute(
            "UPDATE jobs SET state = ?, result = COALESCE(?, result), error = ?, ended = ? WHERE id = ?",
            (state, result and dumped(result), error and dumped(error), now if state in FINAL else None, id),
        )
        enlist(db, id, result, now)
        if state == "running":
            db.execute("UPDATE jobs SET started = COALESCE(started, ?) WHERE id = ?", (now, id))
        if state in FINAL or state == "paused":
            db.execute("UPDATE jobs SET wish = NULL, attempts = 0, not_before = 0 WHERE id = ?", (id,))
        self._insert_event(db, id, "state", None, {"state": state} | ({"error": dict(error)} if error else {}))

    def _insert_event(
        self, db: sqlite3.Connection, job: str, kind: str, step: int | None, data: Mapping[str, Any]
    ) -> None:
        db.execute(
            "INSERT OR IGNORE INTO events (job, kind, step, at, data) VALUES (?, ?, ?, ?, ?)",
            (job, kind, step, self._now(), dumped(data)),
        )


def same_request(job: JobRow, spec: Mapping[str, Any]) -> JobRow:
    """The job, if it was asked for in the same words.

    Raises:
        ConflictError: If not.
    """
    if job.spec.get("request") != spec.get("request"):
        raise ConflictError(
            f"the idempotency key was used for job {job.id}, which asked for something else",
            hint="Send a new key for a new request.",
        )
    return job
