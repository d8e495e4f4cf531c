"""The table of jobs: the queue, and every change of a job's state.

Each change of state adds an event in the same transaction (`events.py`).
"""

import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from server.store.adapters import add_adapter_of_job
from server.store.database import Database, dumped
from server.store.events import EventTable
from server.store.new_jobs import NewJob, insert_jobs, made_before
from server.store.rows import JobRow, job_of
from server.store.states import FINAL, STATE_REQUESTED, Requested, State, check_transition
from steerzo_edge.errors import ConflictError, NotFoundError


class JobTable:
    """All jobs of a server.

    Args:
        database: The database that holds the table.
        changed: Called with a job's id after each change of it or its events, from the thread that wrote it.
        ended: Called in the transaction that ends a job, with its connection and the job.
        now: Seconds since the epoch.

    Attributes:
        events: The table of their events.
    """

    def __init__(
        self,
        database: Database,
        *,
        changed: Callable[[str], None] = lambda job: None,
        ended: Callable[[sqlite3.Connection, JobRow], None] = lambda db, job: None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self.events = EventTable(database, changed=changed, now=now)
        self._now = now
        self._ended = ended

    def add(
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
            spec: What to do, resolved; see `JobRow`.
            idempotency_key: If a job was made with the same key, that job is returned and none is added.
            priority: Higher ones first.
            max_waiting: Most jobs that may wait; None sets no bound.

        Raises:
            ConflictError: If the name is taken, or the key was used for a different request.
            BusyError: If too many jobs wait already.
        """
        with self._database.writing() as db:
            new = NewJob(id, name, spec, idempotency_key, priority)
            made = made_before(db, [new])
            if made is not None:
                return made
            insert_jobs(self._database, db, self.events, [new], now=self._now(), max_waiting=max_waiting)
        self.events.changed(id)
        return self.get(id)

    def add_all(self, jobs: Sequence[NewJob], *, max_waiting: int | None = None) -> list[JobRow]:
        """Puts the jobs of a sweep into the queue, all or none of them.

        If a sweep was made with the same idempotency key, its jobs are returned and none is added.

        Raises:
            ConflictError: If a name is taken, or the key was used for a different request.
            BusyError: If more than `max_waiting` jobs would wait.
        """
        with self._database.writing() as db:
            made = made_before(db, jobs)
            if made is not None:
                return self.of_sweep(made.spec["sweep"]["id"])
            insert_jobs(self._database, db, self.events, jobs, now=self._now(), max_waiting=max_waiting)
        for job in jobs:
            self.events.changed(job.id)
        return [self.get(job.id) for job in jobs]

    def of_sweep(self, sweep: str) -> list[JobRow]:
        """The jobs of one sweep, oldest first."""
        query = "SELECT * FROM jobs WHERE json_extract(spec, '$.sweep.id') = ? ORDER BY number"
        return [job_of(row) for row in self._database.rows(query, sweep)]

    def sweeps(self, limit: int) -> list[str]:
        """The ids of the newest sweeps, newest first."""
        found = "SELECT json_extract(spec, '$.sweep.id') AS sweep, MAX(number) AS newest FROM jobs GROUP BY sweep"
        query = f"SELECT sweep FROM ({found}) WHERE sweep IS NOT NULL ORDER BY newest DESC LIMIT ?"
        return [str(row[0]) for row in self._database.rows(query, limit)]

    def get(self, id_or_name: str) -> JobRow:
        """One job, by id or by name.

        Raises:
            NotFoundError: If there is none.
        """
        rows = self._database.rows("SELECT * FROM jobs WHERE id = ? OR name = ?", id_or_name, id_or_name)
        if not rows:
            raise NotFoundError(f"there is no job {id_or_name!r}", hint="GET /jobs lists them.")
        return job_of(rows[0])

    def of_key(self, idempotency_key: str) -> JobRow | None:
        """The job that was made with an idempotency key; None if there is none."""
        rows = self._database.rows("SELECT * FROM jobs WHERE idempotency_key = ?", idempotency_key)
        return job_of(rows[0]) if rows else None

    def rows(self, *states: State) -> list[JobRow]:
        """Jobs, oldest first; with states, only the jobs in one of them."""
        marks = ",".join("?" * len(states))
        where = f"WHERE state IN ({marks})" if states else ""
        return [job_of(row) for row in self._database.rows(f"SELECT * FROM jobs {where} ORDER BY number", *states)]

    def page(self, *, before: int | None, limit: int, state: State | None = None) -> list[JobRow]:
        """Jobs with a number below `before`, newest first."""
        query = "SELECT * FROM jobs WHERE (? IS NULL OR number < ?) AND (? IS NULL OR state = ?)"
        rows = self._database.rows(f"{query} ORDER BY number DESC LIMIT ?", before, before, state, state, limit)
        return [job_of(row) for row in rows]

    def count(self, *states: State) -> int:
        """How many jobs are in one of these states."""
        marks = ",".join("?" * len(states))
        return int(self._database.rows(f"SELECT COUNT(*) FROM jobs WHERE state IN ({marks})", *states)[0][0])

    def ahead_of(self, job: JobRow) -> int:
        """How many jobs run, or wait before a waiting job."""
        query = (
            "SELECT COUNT(*) FROM jobs WHERE state = 'running'"
            " OR (state = 'queued' AND (priority > ? OR (priority = ? AND number < ?)))"
        )
        return int(self._database.rows(query, job.priority, job.priority, job.number)[0][0])

    def without_adapter(self) -> list[JobRow]:
        """Paused and cancelled jobs that have finished steps, but whose adapter has not been written."""
        query = (
            "SELECT * FROM jobs WHERE state IN ('paused', 'cancelled') AND result IS NULL"
            " AND EXISTS (SELECT 1 FROM events WHERE job = jobs.id AND kind = 'step')"
        )
        return [job_of(row) for row in self._database.rows(query)]

    def next_job(self) -> JobRow | None:
        """The next job to run: first those with a pause or cancel requested, then by priority, then by age."""
        query = (
            "SELECT * FROM jobs WHERE state = 'queued' AND (not_before <= ? OR requested IS NOT NULL)"
            " ORDER BY requested IS NULL, priority DESC, number LIMIT 1"
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
        """Changes a job's state and adds the event of it, in one transaction.

        Args:
            id: The job's id.
            state: The new state.
            result: Its new result; None keeps the present one.
            error: The problem document of its failure; None clears an earlier one.

        Raises:
            ConflictError: If the table of states does not allow the change.
        """
        with self._database.writing() as db:
            self._move(db, id, state, result=result, error=error)
        self.events.changed(id)
        return self.get(id)

    def try_again(self, id: str, error: Mapping[str, Any], in_s: float) -> JobRow:
        """Puts a running job back into the queue after a transient error, and counts the attempt.

        In one transaction: a disk that fails half way must not leave the job between two states.

        Args:
            id: The job's id.
            error: The problem document of the error.
            in_s: Seconds until the next attempt may begin.

        Raises:
            ConflictError: If the job is not running.
        """
        with self._database.writing() as db:
            self._move(db, id, "interrupted", error=error)
            self._move(db, id, "queued", error=error)
            update = "UPDATE jobs SET attempts = attempts + 1, not_before = ? WHERE id = ?"
            db.execute(update, (self._now() + in_s, id))
        self.events.changed(id)
        return self.get(id)

    def request(self, id: str, requested: Requested) -> JobRow:
        """Pauses or cancels a job: at once if it waits, at the end of its present step if it runs.

        A request for a running job is stored, so it is still honoured after a crash.

        Raises:
            ConflictError: If the job's state does not allow it, or it is being cancelled already.
        """
        with self._database.writing() as db:
            job = self.get(id)
            if job.requested == "cancel" and requested == "pause":
                raise ConflictError(f"job {id} is being cancelled")
            if job.state == "running":
                db.execute("UPDATE jobs SET requested = ? WHERE id = ?", (requested, id))
            else:
                self._move(db, id, STATE_REQUESTED[requested])
        self.events.changed(id)
        return self.get(id)

    def resume(self, id: str) -> JobRow:
        """Puts a paused or failed job back into the queue, at its old place.

        If a pause was requested and has not happened yet, the request is withdrawn and the job keeps running.

        Raises:
            ConflictError: If the job's state does not allow it.
        """
        with self._database.writing() as db:
            job = self.get(id)
            if job.state == "running" and job.requested == "pause":
                db.execute("UPDATE jobs SET requested = NULL WHERE id = ?", (id,))
            else:
                self._move(db, id, "queued")
        self.events.changed(id)
        return self.get(id)

    def requested(self, id: str) -> Requested | None:
        """What is to be done with a running job at the end of its present step; None if nothing is."""
        requested: Requested | None = self._database.rows("SELECT requested FROM jobs WHERE id = ?", id)[0][0]
        return requested

    def clear_attempts(self, id: str) -> None:
        """Resets the count of failed attempts, once a step has been finished."""
        with self._database.writing() as db:
            db.execute("UPDATE jobs SET attempts = 0 WHERE id = ?", (id,))

    def set_result(self, id: str, result: Mapping[str, Any]) -> None:
        """Stores a job's result without changing its state."""
        with self._database.writing() as db:
            db.execute("UPDATE jobs SET result = ? WHERE id = ?", (dumped(result), id))
            add_adapter_of_job(db, id, result, self._now())
        self.events.changed(id)

    def delete(self, id: str) -> None:
        """Deletes a job and its events.

        Raises:
            ConflictError: If the job is running.
        """
        with self._database.writing() as db:
            job = self.get(id)
            if job.state in ("running", "interrupted"):
                raise ConflictError(f"job {id} is {job.state}", hint=f"POST /jobs/{id}/cancel first.")
            db.execute("DELETE FROM events WHERE job = ?", (id,))
            db.execute("DELETE FROM jobs WHERE id = ?", (id,))
        self.events.changed(id)

    def _move(
        self,
        db: sqlite3.Connection,
        id: str,
        state: State,
        *,
        result: Mapping[str, Any] | None = None,
        error: Mapping[str, Any] | None = None,
    ) -> None:
        check_transition(id, self.get(id).state, state)
        now = self._now()
        db.execute(
            "UPDATE jobs SET state = ?, result = COALESCE(?, result), error = ?, ended = ? WHERE id = ?",
            (state, result and dumped(result), error and dumped(error), now if state in FINAL else None, id),
        )
        add_adapter_of_job(db, id, result, now)
        if state == "running":
            db.execute("UPDATE jobs SET started = COALESCE(started, ?) WHERE id = ?", (now, id))
        if state in FINAL or state == "paused":
            db.execute("UPDATE jobs SET requested = NULL, attempts = 0, not_before = 0 WHERE id = ?", (id,))
        self.events.insert(db, id, "state", None, {"state": state} | ({"error": dict(error)} if error else {}))
        if state in FINAL:
            self._ended(db, self.get(id))
