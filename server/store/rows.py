"""Rows of the tables of jobs and events."""

import json
import sqlite3
from dataclasses import dataclass
from typing import Any

from server.store.states import FINAL, Requested, State

_SCHEDULING = ("priority", "attempts", "not_before", "requested", "started", "ended")


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job as stored.

    Args:
        id: Made by the server.
        number: Counts jobs from 1.
        name: Unique; the name of its adapter too.
        state: See `server.store.states`.
        created: Seconds since the epoch.
        spec: The resolved request: dataset, validation, profile, task, seed.
        result: The adapter's hash and its evaluations; None until an adapter has been made.
        error: The problem document of the error that it failed with, or that it is tried again after.
        priority: Higher ones first; among equals, the older first.
        attempts: Consecutive attempts that ended in a transient error.
        not_before: Earliest start of the next attempt, in seconds since the epoch.
        requested: What is done at the end of its present step; None if nothing was requested.
        started: When it first ran, in seconds since the epoch.
        ended: When it reached its final state, in seconds since the epoch.
    """

    id: str
    number: int
    name: str
    state: State
    created: float
    spec: dict[str, Any]
    result: dict[str, Any] | None
    error: dict[str, Any] | None
    priority: int
    attempts: int
    not_before: float
    requested: Requested | None
    started: float | None
    ended: float | None

    @property
    def is_final(self) -> bool:
        """Whether its state changes no more, unless a failed job is resumed."""
        return self.state in FINAL


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a job.

    Args:
        seq: Position among all events of all jobs.
        kind: "state", "log", or the kind of a record: "step", "eval", "tune", "watch".
        step: Index of the step, on steps and evaluations.
        at: Seconds since the epoch.
        data: JSON-ready.
    """

    seq: int
    kind: str
    step: int | None
    at: float
    data: dict[str, Any]


def job_of(row: sqlite3.Row) -> JobRow:
    """A row of the table of jobs."""
    result, error = (row[name] and json.loads(row[name]) for name in ("result", "error"))
    spec = json.loads(row["spec"])
    plain = {name: row[name] for name in ("id", "number", "name", "state", "created", *_SCHEDULING)}
    return JobRow(**plain, spec=spec, result=result, error=error)


def event_of(row: sqlite3.Row) -> Event:
    """A row of the table of events."""
    return Event(row["seq"], row["kind"], row["step"], row["at"], json.loads(row["data"]))
