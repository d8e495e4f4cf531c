"""The SQLite file of a server: one connection behind a lock, and the migration steps that make its tables.

Write-ahead log and synchronous=FULL: a change is on the disk before the request that made it is answered. A file of
an older server is migrated when it is opened, one step after the other, each in a transaction of its own.
"""

import json
import math
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from server.store.renamed import current_problem
from steerzo_edge.errors import ConflictError
from steerzo_edge.settings.older_names import current_names

# Never change a step that has been released; add one. `user_version` counts the steps that a file has been through.
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
    """
    ALTER TABLE jobs RENAME COLUMN wish TO requested;
    UPDATE jobs SET spec = json_set(spec, '$.profile', json(current_names(json_extract(spec, '$.profile'))))
      WHERE json_type(spec, '$.profile') = 'object';
    UPDATE jobs SET error = current_problem(error) WHERE error IS NOT NULL;
    UPDATE events SET data = json_set(data, '$.error', json(current_problem(json_extract(data, '$.error'))))
      WHERE kind = 'state' AND json_type(data, '$.error') = 'object';
    """,
    """
    UPDATE jobs SET spec = json_set(spec, '$.profile', json(current_names(json_extract(spec, '$.profile'))))
      WHERE json_type(spec, '$.profile') = 'object';
    """,
    """
    CREATE TABLE webhooks (
      id TEXT PRIMARY KEY, job TEXT NOT NULL, url TEXT NOT NULL, body TEXT NOT NULL,
      attempts INTEGER NOT NULL DEFAULT 0, due REAL NOT NULL
    );
    """,
)


class Database:
    """A connection to the SQLite file; every method may be called from any thread.

    Args:
        path: Path of the file; made if missing.
        reserved: Names that no job and no adapter may be given: those of the base.

    Raises:
        ConflictError: If a newer server has written the file.
    """

    def __init__(self, path: Path, *, reserved: frozenset[str] = frozenset()) -> None:
        self.reserved = reserved
        self._lock = threading.RLock()
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._connection.row_factory = sqlite3.Row
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=FULL")
        self._connection.execute("PRAGMA foreign_keys=ON")
        # Commands such as `steerzo keys` write to the file of a running server.
        self._connection.execute("PRAGMA busy_timeout=10000")
        self._migrate(path)

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
        """A transaction: committed to the disk at the end, rolled back after an exception."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                # After an error such as a full disk, SQLite may have rolled back by itself.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Holds the lock over several calls, so that no other thread reads or writes in between."""
        with self._lock:
            yield

    def _migrate(self, path: Path) -> None:
        version = int(self._connection.execute("PRAGMA user_version").fetchone()[0])
        if version > len(STEPS):
            raise ConflictError(
                f"{path} was written by a newer server (format {version}, this one knows {len(STEPS)})",
                hint="Start the newer version, or use another --data-dir.",
            )
        for function in (current_names, current_problem):
            self._connection.create_function(function.__name__, 1, _on_json(function), deterministic=True)
        for number, script in enumerate(STEPS[version:], version + 1):
            self._connection.executescript(f"BEGIN IMMEDIATE; {script} PRAGMA user_version = {number}; COMMIT;")


def _on_json(function: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[str], str]:
    """A function of JSON objects as one of JSON texts, which SQL can call."""
    return lambda text: json.dumps(function(json.loads(text)))


def dumped(value: Mapping[str, Any]) -> str:
    """An object as JSON; its nan and inf, which JSON cannot express, become null."""
    clean = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in value.items()}
    return json.dumps(clean, allow_nan=False)
