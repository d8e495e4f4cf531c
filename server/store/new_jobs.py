"""Inserts jobs into the table of jobs, inside a transaction of the caller."""

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from server.store.adapters import name_taken, taken_names
from server.store.database import Database, dumped
from server.store.events import EventTable
from server.store.rows import JobRow, job_of
from steerzo_edge.errors import BusyError, ConflictError


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job that is to be added.

    Args:
        id: Made by the server.
        name: Unique among jobs and adapters; None makes it from the job's number.
        spec: What to do, resolved; see `JobRow`.
        idempotency_key: Unique among jobs, or None.
        priority: Higher ones first.
    """

    id: str
    name: str | None
    spec: Mapping[str, Any]
    idempotency_key: str | None = None
    priority: int = 0


def insert_jobs(
    database: Database,
    db: sqlite3.Connection,
    events: EventTable,
    jobs: Sequence[NewJob],
    *,
    now: float,
    max_waiting: int | None,
) -> None:
    """Inserts jobs in their order, each with the event of its state; the caller calls `changed` after the commit.

    Args:
        database: Knows which names are reserved.
        db: Its connection, in a transaction.
        events: The table of events.
        jobs: The jobs.
        now: Seconds since the epoch.
        max_waiting: Most jobs that may wait; None sets no bound.

    Raises:
        ConflictError: If a name is taken.
        BusyError: If more jobs would wait than may.
    """
    waiting = db.execute("SELECT COUNT(*) FROM jobs WHERE state = 'queued'").fetchone()[0]
    if max_waiting is not None and waiting + len(jobs) > max_waiting:
        raise BusyError(f"{waiting} jobs are waiting already, at most {max_waiting} may wait")
    for job in jobs:
        number = db.execute("SELECT COALESCE(MAX(number), 0) + 1 FROM jobs").fetchone()[0]
        taken = taken_names(database, db)
        # A user may have given the name job-7 to an earlier job.
        name = job.name or next(free for more in count(number) if (free := f"job-{more}") not in taken)
        if name in taken:
            raise name_taken(name)
        db.execute(
            "INSERT INTO jobs (id, number, name, state, created, spec, idempotency_key, priority)"
            " VALUES (?, ?, ?, 'queued', ?, ?, ?, ?)",
            (job.id, number, name, now, dumped(job.spec), job.idempotency_key, job.priority),
        )
        events.insert(db, job.id, "state", None, {"state": "queued"})


def made_before(db: sqlite3.Connection, jobs: Sequence[NewJob]) -> JobRow | None:
    """The job that was made with the idempotency key of one of these jobs; None if there is none.

    Args:
        db: The connection, in the transaction that adds the jobs: a second request cannot come between.
        jobs: The jobs that are to be added.

    Raises:
        ConflictError: If the key was used for a different request.
    """
    for job in jobs:
        if job.idempotency_key is not None:
            query = "SELECT * FROM jobs WHERE idempotency_key = ?"
            found = db.execute(query, (job.idempotency_key,)).fetchone()
            if found is not None:
                return same_request(job_of(found), job.spec)
    return None


def same_request(job: JobRow, spec: Mapping[str, Any]) -> JobRow:
    """The job, if it was made by an identical request.

    Raises:
        ConflictError: If the idempotency key was used for a different request.
    """
    if job.spec.get("request") != spec.get("request"):
        raise ConflictError(
            f"the idempotency key was used for job {job.id}, which was a different request",
            hint="Send a new key for a new request.",
        )
    return job
