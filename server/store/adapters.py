"""Which adapters there are: those that jobs have made, and those that were uploaded.

A job's adapter is listed in the same transaction that notes the job's result, and goes with the job. One name means
one thing among jobs and adapters; only a job and its own adapter may share theirs.
"""

import json
import sqlite3
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from server.ids import new_id
from server.problems import NoRoomError
from server.store.database import Database, dumped
from steerzo_edge.errors import ConflictError, NotFoundError

# What requests mean by these is the job that ran last, and no adapter at all.
RESERVED: Final = frozenset({"latest", "base"})


@dataclass(frozen=True, slots=True)
class AdapterRow:
    """An adapter as kept.

    Args:
        id: Made by the server.
        name: Unique; see the module.
        job: The job that made it; None if it was uploaded.
        created: Seconds since the epoch.
        sha256: Of its weights file, in hex.
        facts: What is known of it: base, rank, and more.
    """

    id: str
    name: str
    job: str | None
    created: float
    sha256: str
    facts: dict[str, Any]

    @property
    def owner(self) -> str:
        """The id under which its files are: the job's, or its own."""
        return self.job or self.id


class AdapterTable:
    """The table of adapters.

    Args:
        database: Where it is.
        now: Seconds since the epoch.
    """

    def __init__(self, database: Database, *, now: Callable[[], float] = time.time) -> None:
        self._database = database
        self._now = now

    def rows(self) -> list[AdapterRow]:
        """All adapters, newest first."""
        found = self._database.rows("SELECT * FROM adapters ORDER BY created DESC, id")
        return [_adapter(row) for row in found]

    def find(self, id_or_name: str) -> AdapterRow | None:
        """One adapter, by its own id or name."""
        found = self._database.rows("SELECT * FROM adapters WHERE id = ? OR name = ?", id_or_name, id_or_name)
        return _adapter(found[0]) if found else None

    def of_job(self, job: str) -> AdapterRow | None:
        """What a job has made, by the job's id; None if there is nothing, or it was deleted."""
        found = self._database.rows("SELECT * FROM adapters WHERE job = ?", job)
        return _adapter(found[0]) if found else None

    def same_upload(self, sha256: str, config_sha256: str) -> AdapterRow | None:
        """The uploaded adapter with the same weights and the same settings."""
        query = (
            "SELECT * FROM adapters WHERE job IS NULL AND sha256 = ? AND json_extract(facts, '$.config_sha256') = ?"
        )
        found = self._database.rows(query, sha256, config_sha256)
        return _adapter(found[0]) if found else None

    def add(
        self, id: str, name: str, sha256: str, facts: Mapping[str, Any], *, exact: bool, most: int
    ) -> AdapterRow:
        """Lists an uploaded adapter.

        Args:
            id: Made by the server.
            name: What to call it.
            sha256: Of its weights.
            facts: What was found in it.
            exact: Whether a name that is taken is refused; otherwise a number is put behind it.
            most: Uploaded adapters that are kept.

        Raises:
            ConflictError: If the name is taken.
            NoRoomError: If there are as many already.
        """
        with self._database.writing() as db:
            count = int(db.execute("SELECT COUNT(*) FROM adapters WHERE job IS NULL").fetchone()[0])
            if count >= most:
                raise NoRoomError(
                    f"{count} uploaded adapters are kept, and no more than {most}",
                    hint="Delete some: DELETE /adapters/{id}; or raise the server's max_adapters.",
                )
            taken = taken_names(db)
            if exact and name in taken:
                raise _taken(name)
            number, free = 1, name
            while free in taken:
                number += 1
                free = f"{name}-{number}"
            values = (id, free, None, self._now(), sha256, dumped(facts))
            db.execute("INSERT INTO adapters VALUES (?, ?, ?, ?, ?, ?)", values)
        return self._row(id)

    def rename(self, id: str, name: str) -> AdapterRow:
        """Calls an adapter something else; its job keeps its name.

        Raises:
            ConflictError: If another adapter or job is called so.
            NotFoundError: If it is gone.
        """
        with self._database.writing() as db:
            if name in taken_names(db, but=self._row(id)):
                raise _taken(name)
            db.execute("UPDATE adapters SET name = ? WHERE id = ?", (name, id))
            return self._row(id)

    def remove(self, id: str) -> AdapterRow:
        """Forgets an adapter.

        Returns:
            What was known of it.

        Raises:
            ConflictError: If its job runs, and so will write it again.
            NotFoundError: If it is gone.
        """
        with self._database.writing() as db:
            row = self._row(id)
            job = db.execute("SELECT state FROM jobs WHERE id = ?", (row.job,)).fetchone()
            if job is not None and job["state"] == "running":
                raise ConflictError(
                    f"adapter {id} belongs to job {row.job}, which runs and will write it again",
                    hint=f"POST /jobs/{row.job}/pause or /cancel first.",
                )
            db.execute("DELETE FROM adapters WHERE id = ?", (id,))
        return row

    def _row(self, id: str) -> AdapterRow:
        found = self._database.rows("SELECT * FROM adapters WHERE id = ?", id)
        if not found:
            raise NotFoundError(f"there is no adapter {id!r}", hint="GET /adapters lists them.")
        return _adapter(found[0])


def enlist(db: sqlite3.Connection, job: str, result: Mapping[str, Any] | None, now: float) -> None:
    """Lists what a job has made, or what it has made anew; inside the transaction that notes it.

    Args:
        db: In a transaction.
        job: The job's id.
        result: What it has made; None changes nothing.
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


def taken_names(db: sqlite3.Connection, *, but: AdapterRow | None = None) -> set[str]:
    """Names that cannot be given to a job or an adapter.

    Args:
        db: The connection.
        but: An adapter whose own names, and its job's, do not count.
    """
    own, job = (None, None) if but is None else (but.id, but.job)
    query = (
        "SELECT id FROM jobs UNION SELECT id FROM adapters"
        " UNION SELECT name FROM jobs WHERE id IS NOT ? UNION SELECT name FROM adapters WHERE id IS NOT ?"
    )
    return {row[0] for row in db.execute(query, (job, own))} | RESERVED


def _taken(name: str) -> ConflictError:
    return ConflictError(f"there is a job or an adapter named {name!r} already", hint="Choose another name.")


def _adapter(row: sqlite3.Row) -> AdapterRow:
    plain = {name: row[name] for name in ("id", "name", "job", "created", "sha256")}
    return AdapterRow(**plain, facts=json.loads(row["facts"]))
