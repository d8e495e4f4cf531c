"""The table of messages about ended jobs that have not been delivered yet.

A message is added in the transaction that ends its job, so that neither a crash nor a full disk can part them.
It is removed when it has been delivered, or given up.
"""

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from server.ids import new_id
from server.store.database import Database
from server.store.rows import JobRow


@dataclass(frozen=True, slots=True)
class Message:
    """A message that waits to be delivered.

    Args:
        id: The same at every attempt, so that a receiver can recognize a second delivery.
        job: Id of the job.
        url: Where to.
        body: JSON.
        attempts: Attempts that failed.
    """

    id: str
    job: str
    url: str
    body: str
    attempts: int


class WebhookTable:
    """All messages of a server; every method may be called from any thread.

    Args:
        database: The database that holds the table.
        url: The operator's address for all jobs; None if there is none.
        now: Seconds since the epoch.

    Attributes:
        now: Seconds since the epoch.
        added: Set when a message was added.
    """

    def __init__(self, database: Database, url: str | None = None, *, now: Callable[[], float] = time.time) -> None:
        self._database = database
        self._url = url
        self.now = now
        self.added = threading.Event()

    def add(self, db: sqlite3.Connection, job: JobRow) -> None:
        """Adds a message for each address that a job's end is reported to, in the transaction that ends it."""
        for url in dict.fromkeys(filter(None, (self._url, job.spec.get("webhook")))):
            id = new_id("msg")
            body = json.dumps(message_of(job, self.now()))
            db.execute(
                "INSERT INTO webhooks (id, job, url, body, due) VALUES (?, ?, ?, ?, ?)",
                (id, job.id, url, body, self.now()),
            )
            self.added.set()

    def due(self, limit: int = 20) -> list[Message]:
        """Messages whose next attempt is due, the oldest first."""
        query = "SELECT * FROM webhooks WHERE due <= ? ORDER BY due LIMIT ?"
        return [
            Message(row["id"], row["job"], row["url"], row["body"], row["attempts"])
            for row in self._database.rows(query, self.now(), limit)
        ]

    def next_in_s(self) -> float | None:
        """Seconds until the next attempt; None if no message waits."""
        due: float | None = self._database.rows("SELECT MIN(due) FROM webhooks")[0][0]
        return None if due is None else max(0.0, due - self.now())

    def make_due(self) -> None:
        """Makes the next attempt of every message due now."""
        with self._database.writing() as db:
            db.execute("UPDATE webhooks SET due = MIN(due, ?)", (self.now(),))

    def postpone(self, id: str, attempts: int, due: float) -> None:
        """Notes how many attempts have failed, and when the next is due, in seconds since the epoch."""
        with self._database.writing() as db:
            db.execute("UPDATE webhooks SET attempts = ?, due = ? WHERE id = ?", (attempts, due, id))

    def remove(self, id: str) -> None:
        """Removes a message that was delivered, or given up."""
        with self._database.writing() as db:
            db.execute("DELETE FROM webhooks WHERE id = ?", (id,))


def message_of(job: JobRow, at: float) -> dict[str, Any]:
    """What is reported of an ended job, JSON-ready.

    Args:
        job: In its final state.
        at: Seconds since the epoch.
    """
    result: Mapping[str, Any] = job.result or {}
    after = result.get("after") or {}
    metrics = {name: after[name] for name in ("loss", "accuracy", "examples") if name in after}
    error = job.error and {name: job.error[name] for name in ("code", "detail", "hint") if name in job.error}
    return {
        "type": f"job.{job.state}",
        "timestamp": datetime.fromtimestamp(at, UTC).isoformat(),
        "data": {
            "job": job.id,
            "name": job.name,
            "state": job.state,
            "adapter": {"sha256": result["sha256"], "step": result["step"]} if "sha256" in result else None,
            "metrics": metrics | (after.get("metrics") or {}),
            "error": error,
        },
    }
