"""API keys: named, hashed at rest, revoked while the server runs.

A key is 256 random bits, which cannot be guessed, so one SHA-256 is enough: slow hashes protect passwords that
people choose, and would cost every request tens of milliseconds. The table is read at every request, because
`steerzo keys` writes to the database of a running server; and through a connection of its own, so that no request
waits for the fsync of a training step.
"""

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from server.store.database import Database
from steerzo_edge.errors import ConflictError, InputError, NotFoundError

PREFIX: Final = "steerzo_"
BYTES: Final = 32
FROM_SETTINGS: Final = "STEERZO_API_KEY"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A key as stored; times are seconds since the epoch."""

    name: str
    created: float
    revoked: float | None


class Keys:
    """The table of keys, and the key from the settings.

    Args:
        database: The database that holds the table.
        fixed: The key from the settings, if any. It cannot be revoked while the server runs.
        now: Seconds since the epoch.
    """

    def __init__(
        self, database: Database, *, fixed: str | None = None, now: Callable[[], float] = time.time
    ) -> None:
        self._database = database
        self._fixed = None if fixed is None else hashed(fixed)
        self._now = now

    @property
    def are_required(self) -> bool:
        """Whether requests need a key: once there was one, also after the last one is revoked."""
        return self._fixed is not None or bool(self._database.rows("SELECT 1 FROM keys LIMIT 1"))

    @property
    def any_is_valid(self) -> bool:
        """Whether there is a key that is not revoked."""
        return self._fixed is not None or any(row.revoked is None for row in self.all())

    def all(self) -> list[KeyRow]:
        """Every key, including revoked ones, oldest first."""
        rows = self._database.rows("SELECT name, created, revoked FROM keys ORDER BY created, name")
        return [KeyRow(row["name"], row["created"], row["revoked"]) for row in rows]

    def create(self, name: str) -> str:
        """Makes a key.

        Args:
            name: The key's name in lists and logs.

        Returns:
            The key. Only its hash is stored, so it cannot be shown again.

        Raises:
            InputError: If the name has other characters than letters, digits, dots, dashes and underscores.
            ConflictError: If a key had this name before, even one that is revoked.
        """
        if not _NAME.fullmatch(name) or name == FROM_SETTINGS:
            raise InputError(f"{name!r} cannot name a key", hint="Use up to 64 letters, digits, '.', '-', '_'.")
        key = PREFIX + secrets.token_urlsafe(BYTES)
        with self._database.writing() as db:
            if db.execute("SELECT 1 FROM keys WHERE name = ?", (name,)).fetchone():
                raise ConflictError(f"there is or was a key named {name!r}", hint="Choose another name.")
            db.execute("INSERT INTO keys (name, hash, created) VALUES (?, ?, ?)", (name, hashed(key), self._now()))
        return key

    def revoke(self, name: str) -> None:
        """Revokes a key, from the next request on; revoking it again changes nothing.

        Raises:
            NotFoundError: If no key ever had this name.
        """
        with self._database.writing() as db:
            if not db.execute("SELECT 1 FROM keys WHERE name = ?", (name,)).fetchone():
                raise NotFoundError(f"there is no key named {name!r}", hint="`steerzo keys list` names them.")
            db.execute("UPDATE keys SET revoked = COALESCE(revoked, ?) WHERE name = ?", (self._now(), name))

    def holder(self, key: str) -> str | None:
        """The name of a key; None if it is unknown or revoked.

        Note:
            Every hash is compared, in constant time, so that the time taken reveals nothing about the stored keys.
        """
        given = hashed(key)
        known = [(FROM_SETTINGS, self._fixed)] if self._fixed is not None else []
        rows = self._database.rows("SELECT name, hash FROM keys WHERE revoked IS NULL")
        found = None
        for name, hash in (*known, *((row["name"], row["hash"]) for row in rows)):
            if hmac.compare_digest(given, hash):
                found = name
        return found


def hashed(key: str) -> str:
    """The hash of a key, as stored."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
