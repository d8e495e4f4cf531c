"""What a full disk is called where something is to be kept."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from server.faults import known_error_of


@contextmanager
def told_as_storage() -> Iterator[None]:
    """Gives errors of disk and database their own names.

    Raises:
        StorageError: If the disk is full or fails, whether under a file or under the database.
    """
    try:
        yield
    except (OSError, sqlite3.OperationalError) as error:
        known = known_error_of(error)
        if known is None:
            raise
        raise known from error
