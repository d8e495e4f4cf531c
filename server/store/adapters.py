"""The table of adapters: those that jobs have made, and those that were uploaded.

A job's adapter is added in the same transaction that stores the job's result, and removed with the job. Names are
unique among jobs and adapters; only a job and its own adapter may share a name.
"""

import json
import sqlite3
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from server.errors import NoRoomError
from server.ids import new_id
from server.store.database import Database, dumped
from steerzo_edge.errors import ConflictError, NotFoundError

# In requests "latest" means the job that ran last, and "base" means no adapter.
RESERVED: Final = frozenset({"latest", "base"})


@dataclass(frozen=True, slots=True)
class AdapterRow:
    """An adapter as stored.

    Args:
        id: Made by the server.
        name: Unique; see the module.
        job: Id of the job that made it; None if it was uploaded.
        created: Seconds since the epoch.
        sha256: Hash of its weights file, in hex.
        facts: Its base, rank, and more.
    """

    id: str
    name: str
    job: str | None
    created: float
    sha256: str
    facts: dict[str, Any]

    @property
    def owner(self) -> str:
        """The id that its directory is named by: the job's, or its own if it was uploaded."""
        return self.job or self.id


class AdapterTable:
    """The table of adapters.

    Args:
        database: The database that holds the table.
        now: Seconds since the epoch.
    """

    def __init__(self, database: Database, *, now: Callable[[], float] = time.time) -> None:
        self._database = database
        self._now = now

    @property
    def reserved(self) -> frozenset[str]:
        """Names of the base, which no adapter may have; one that has it from before is found by its id alone."""
        return self._database.reserved

    def rows(self) -> list[AdapterRow]:
        """All adapters, newest first."""
        found = self._database.rows("SELECT * FROM adapters ORDER BY created DESC, id")
        return [_adapter(row) for row in found]

    def find(self, id_or_name: str) -> AdapterRow | None:
        """The adapter with this id or name; None if there is none."""
        found = self._database.rows("SELECT * FROM adapters WHERE id = ? OR name = ?", id_or_name, id_or_name)
        return _adapter(found[0]) if found else None

    def of_job(self, job: str) -> AdapterRow | None:
        """The adapter of a job, by the job's id; None if it was not made yet, or was deleted."""
        found = self._database.rows("SELECT * FROM adapters WHERE job = ?", job)
        return _adapter(found[0]) if found else None

    def same_upload(self, sha256: str, config_sha256: str) -> AdapterRow | None:
        """The uploaded adapter with the same weights and settings; None if there is none."""
        query = (
            "SELECT * FROM adapters WHERE job IS NULL AND sha256 = ? AND json_extract(facts, '$.config_sha256') = ?"
        )
        found = self._database.rows(query, sha256, config_sha256)
        return _adapter(found[0]) if found else None

    def add(
        self, id: str, name: str, sha256: str, facts: Mapping[str, Any], *, exact: bool, most: int
    ) -> AdapterRow:
        """Adds an uploaded adapter.

        Args:
            id: Made by the server.
            name: Its name.
            sha256: Hash of its weights file.
            facts: Its base, rank, and more.
            exact: Whether a name that is taken is refused; otherwise a number is appended to it.
            most: Most uploaded adapters that are kept.

        Raises:
            ConflictError: If the name is taken.
            NoRoomError: If `most` adapters are kept already.
        """
        with self._database.writing() as db:
            count = int(db.execute("SELECT COUNT(*) FROM adapters WHERE job IS NULL").fetchone()[0])
            if count >= most:
                raise NoRoomError(
                    f"{count} uploaded adapters are kept already; the limit is {most}",
                    hint="Delete some: DELETE /adapters/{id}; or raise the server's max_adapters.",
                )
            taken = taken_names(self._database, db)
            if exact and name in taken:
                raise name_taken(name)
            number, free = 1, name
            while free in taken:
                number += 1
                free = f"{name}-{number}"
            values = (id, free, None, self._now(), sha256, dumped(facts))
            db.execute("INSERT INTO adapters VALUES (?, ?, ?, ?, ?, ?)", values)
        return self._row(id)

    def rename(self, id: str, name: str) -> AdapterRow:
        """Renames an adapter; its job keeps its own name.

        Raises:
            ConflictError: If another adapter or job has this name.
            NotFoundError: If the adapter was deleted.
        """
        with self._database.writing() as db:
            if name in taken_names(self._database, db, but=self._row(id)):
                raise name_taken(name)
            db.execute("UPDATE adapters SET name = ? WHERE id = ?", (name, id))
            return self._row(id)

    def remove(self, id: str) -> AdapterRow:
        """Removes an adapter's row.

        Returns:
            The removed row.

        Raises:
            ConflictError: If its job is running, and so will write it again.
            NotFoundError: If the adapter was deleted.
        """
        with self._database.writing() as db:
            row = self._row(id)
            job = db.execute("SELECT state FROM jobs WHERE id = ?", (row.job,)).fetchone()
            if job is not None and job["state"] == "running":
                raise ConflictError(
                    f"adapter {id} belongs to job {row.job}, which is running and will write it again",
                    hint=f"POST /jobs/{row.job}/pause or /cancel first.",
                )
            db.execute("DELETE FROM adapters WHERE id = ?", (id,))
        return row

    def _row(self, id: str) -> AdapterRow:
        found = self._database.rows("SELECT * FROM adapters WHERE id = ?", id)
        if not found:
            raise NotFoundError(f"there is no adapter {id!r}", hint="GET /adapters lists them.")
        return _adapter(found[0])


def add_adapter_of_job(db: sqlite3.Connection, job: str, result: Mapping[str, Any] | None, now: float) -> None:
    """Adds or updates a job's adapter, inside the transaction that stores the job's result.

    Args:
        db: The connection, in a transaction.
        job: The job's id.
        result: The job's result; None changes nothing.
        now: Seconds since the epoch.
    """
    if result is None:
        return
    name, spec = db.execute("SELECT name, spec FROM jobs WHERE id = ?", (job,)).fetchone()
    profile = json.loads(spec)["profile"]
    facts = {"base": profile["model"]["id"], "rank": profile["subset"].get("rank"), "step": result["step"]}
    db.execute(
        "INSERT INTO adapters VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (job) DO UPDATE"
        " SET created = excluded.created, sha256 = excluded.sha256, facts = excluded.facts",
        (new_id("ad"), name, job, now, result["sha256"], dumped(facts)),
    )


def taken_names(database: Database, db: sqlite3.Connection, *, but: AdapterRow | None = None) -> set[str]:
    """Names and ids that a job or an adapter cannot be given.

    Args:
        database: Knows which names are reserved.
        db: The connection.
        but: An adapter whose own name, and its job's, are not counted.
    """
    own, job = (None, None) if but is None else (but.id, but.job)
    query = (
        "SELECT id FROM jobs UNION SELECT id FROM adapters"
        " UNION SELECT name FROM jobs WHERE id IS NOT ? UNION SELECT name FROM adapters WHERE id IS NOT ?"
    )
    return {row[0] for row in db.execute(query, (job, own))} | RESERVED | database.reserved


def name_taken(name: str) -> ConflictError:
    """The error for a name that a job, an adapter or the base has already."""
    return ConflictError(
        f"there is a job or an adapter named {name!r} already, or it is a name of the base",
        hint="Choose another name.",
    )


def _adapter(row: sqlite3.Row) -> AdapterRow:
    plain = {name: row[name] for name in ("id", "name", "job", "created", "sha256")}
    return AdapterRow(**plain, facts=json.loads(row["facts"]))
