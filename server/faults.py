"""Which faults may pass by themselves, and how long a job waits for that."""

import errno
import sqlite3
from dataclasses import dataclass

import torch

from steerzo_edge.errors import CapacityError, SteerzoError, StorageError

TRANSIENT = (CapacityError, StorageError)
LONGEST_S = 3600.0
_DISK = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EIO: "the disk failed to read or write",
    errno.EROFS: "the disk is read-only",
}
_DATABASE = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_BUSY)


@dataclass(frozen=True, slots=True)
class Retries:
    """How often and how soon a job tries again.

    Args:
        most: Attempts after the first.
        delay_s: Before the second attempt; doubled for each further one.
    """

    most: int = 6
    delay_s: float = 10.0

    def next_in_s(self, error: SteerzoError, attempts: int) -> float | None:
        """How long to wait before trying again.

        Args:
            error: What the present attempt ended with.
            attempts: Those before it, in a row, that ended in a fault too.

        Returns:
            Seconds; None if there is to be no other attempt.
        """
        if not isinstance(error, TRANSIENT) or attempts >= self.most:
            return None
        return min(self.delay_s * 2.0**attempts, LONGEST_S)


def known_error_of(error: Exception) -> SteerzoError | None:
    """What an error of the system, the database or the device means; None if it is none of theirs."""
    if isinstance(error, OSError) and error.errno in _DISK:
        place = f" ({error.filename})" if error.filename else ""
        return StorageError(f"{_DISK[error.errno]}{place}")
    if isinstance(error, sqlite3.OperationalError):
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        return StorageError(f"the database cannot be written: {error}") if code in _DATABASE else None
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return CapacityError("the device's memory does not suffice")
    return None
