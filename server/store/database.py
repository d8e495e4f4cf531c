"""The SQLite file of a server: one connection behind a lock, and the steps by which its tables came about.

Write-ahead log and synchronous=FULL: what was answered is on the disk. A file of an older server is brought up to
date when it is opened, one step after the other, each in a transaction of its own.
"""

import json
import math
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from steerzo_edge.errors import ConflictError

# Never change a step that has been released; add one. `user_version` counts those that a file has had.
STEPS: Final[tuple[str, ...]] = (
    """
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
    """,
    """
    ALTER TABLE jobs ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE jobs ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE jobs ADD COLUMN not_before REAL NOT NULL DEFAULT 0;
    ALTER TABLE jobs ADD COLUMN wish TEXT;
    ALTER TABLE jobs ADD COLUMN started REAL;
    ALTER TABLE jobs ADD COLUMN ended REAL;
    CREATE INDEX jobs_by_state ON jobs (state);
    CREATE TABLE keys (
      name TEXT PRIMARY KEY, hash TEXT NOT NULL UNIQUE, created REAL NOT NULL, revoked REAL
    );
    """,
    """
    CREATE TABLE adapters (
      id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, job TEXT UNIQUE REFERENCES jobs(id) ON DELETE CASCADE,
      created REAL NOT NULL, sha256 TEXT NOT NULL, facts TEXT NOT NULL
    );
    INSERT INTO adapters
      SELECT 'ad_' || lower(hex(randomblob(8))), name, id, COALESCE(ended, created),
        json_extract(result, '$.sha256'), json_object(
          'base', json_extract(spec, '$.profile.model.id'), 'rank', json_extract(spec, '$.profile.subset.rank'),
          'step', json_extract(result, '$.step')
        )
      FROM jobs WHERE json_extract(result, '$.sha256') IS NOT NULL;
    """,
)


class Database:
    """The connection.

    Args:
        path: Of the file; made if missing.

    Raises:
        ConflictError: If a newer server has written the file.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._connection.row_factory = sqlite3.Row
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=FULL")
        self._connection.execute("PRAGMA foreign_keys=ON")
        # Commands such as `steerzo keys` write to the file of a running server.
        self._connection.execute("PRAGMA busy_timeout=10000")
        self._bring_up_to_date(path)

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._connection.close()

    def rows(self, query: str, *values: Any) -> list[sqlite3.Row]:
        """The rows of a query."""
        with self._lock:
            return self._connection.execute(query, values).fetchall()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction: all of it is on the disk afterwards, or, after an exception, nothing."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                # A full disk may have ended the transaction already.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keeps other threads out over several calls."""
        with self._lock:
            yield

    def _bring_up_to_date(self, path: Path) -> None:
        had = int(self._connection.execute("PRAGMA user_version").fetchone()[0])
        if had > len(STEPS):
            raise ConflictError(
                f"{path} was written by a newer server (format {had}, this one knows {len(STEPS)})",
                hint="Start the newer version, or use another --data-dir.",
            )
        for number, script in enumerate(STEPS[had:], had + 1):
            self._connection.executescript(f"BEGIN IMMEDIATE; {script} PRAGMA user_version = {number}; COMMIT;")


def dumped(value: Mapping[str, Any]) -> str:
    """JSON without nan and inf, which JSON lacks: they become null."""
    clean = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in value.items()}
    return json.dumps(clean, allow_nan=False)
