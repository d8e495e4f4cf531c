"""Rows of the tables of jobs and events."""

import json
import sqlite3
from dataclasses import dataclass
from typing import Any

from server.store.states import FINAL, State, Wish

_SCHEDULING = ("priority", "attempts", "not_before", "wish", "started", "ended")


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job as stored.

    Args:
        id: Made by the server.
        number: Counts jobs from 1.
        name: Unique; of its adapter too.
        state: See `server.store.states`.
        created: Seconds since the epoch.
        spec: What it was asked for, resolved.
        result: What it has made, once there is something.
        error: The problem it failed with, or because of which it tries again.
        priority: Higher ones first; of equals, the older.
        attempts: Runs in a row that ended in a fault that may pass.
        not_before: When the next attempt may begin, in seconds since the epoch.
        wish: What is to happen at the end of the present step.
        started: When it first ran.
        ended: When it came into its final state.
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
    wish: Wish | None
    started: float | None
    ended: float | None

    @property
    def is_final(self) -> bool:
        """Whether nothing more will happen to it by itself."""
        return self.state in FINAL


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a job; `seq` orders all of them, `step` is set on steps and evaluations."""

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
