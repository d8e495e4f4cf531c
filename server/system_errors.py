"""Maps errors of the operating system, SQLite and the device's memory to the project's own error classes."""

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from steerzo_edge.errors import CapacityError, SteerzoError, StorageError

_DISK = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EIO: "the disk failed to read or write",
    errno.EROFS: "the disk is read-only",
}
_DATABASE = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_BUSY)


def known_error_of(error: Exception) -> SteerzoError | None:
    """The StorageError or CapacityError that an error stands for; None if disk and memory did not cause it."""
    if isinstance(error, OSError) and error.errno in _DISK:
        place = f" ({error.filename})" if error.filename else ""
        return StorageError(f"{_DISK[error.errno]}{place}")
    if isinstance(error, sqlite3.OperationalError):
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        return StorageError(f"the database cannot be written: {error}") if code in _DATABASE else None
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return CapacityError("the device's memory does not suffice")
    return None


@contextmanager
def disk_errors_as_storage_errors() -> Iterator[None]:
    """Raises errors of disk and database as StorageError.

    Raises:
        StorageError: If the disk is full or fails, for a file or for the database.
    """
    try:
        yield
    except (OSError, sqlite3.OperationalError) as error:
        known = known_error_of(error)
        if known is None:
            raise
        raise known from error
