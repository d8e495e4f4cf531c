"""Large files that several processes write, open and delete: claimed by locks, which end with the process.

A file that is being written has a name of its own until it is complete. Its lock tells a writer at work from one
that was killed.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from steerzo_edge.storage.files import sync_directory

_SUFFIX = ".partial"


@contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """A new file to write to; at the end of the block it is synced and renamed to `path`.

    Several processes may write the same path at once: each has a file of its own, and the last to finish counts.

    Args:
        path: Of the file; its directory must exist.

    Raises:
        OSError: If the disk is full or fails; an old file at `path` stays as it was, and nothing else is left.
    """
    partial = path.with_name(f".{path.name}.{uuid4().hex}{_SUFFIX}")
    try:
        with partial.open("xb") as file:
            _lock(file.fileno(), fcntl.LOCK_EX)
            yield file
            file.flush()
            os.fsync(file.fileno())
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    sync_directory(path.parent)


def remove_abandoned(path: Path, pattern: str) -> None:
    """Deletes what killed processes left of files they were writing with `written_whole`.

    Args:
        path: The directory.
        pattern: Of the names that the complete files would have had, such as "*.packed".
    """
    for partial in path.glob(f".{pattern}.*{_SUFFIX}"):
        remove_unused(partial)


def remove_unused(path: Path) -> bool:
    """Deletes a file that no process has claimed.

    Args:
        path: The file.

    Returns:
        Whether it is gone.
    """
    return _unclaimed(path, path.unlink)


def is_claimed(path: Path) -> bool:
    """Whether a process has claimed a file; one that cannot be opened counts as claimed."""
    return not _unclaimed(path, lambda: None)


class Claim:
    """A claim on a file, which several processes may share; released with the object, or with the process.

    Args:
        path: The file.

    Attributes:
        handle: Of the file, open for reading.

    Raises:
        OSError: If it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self.handle = self._file.fileno()
        _lock(self.handle, fcntl.LOCK_SH)

    def release(self) -> None:
        """Releases the claim; a second call does nothing."""
        self._file.close()

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            self._file.close()


def _lock(handle: int, kind: int) -> bool:
    """Locks an open file until it is closed, without waiting; False where others hold it, or there are no locks."""
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _unclaimed(path: Path, act: Callable[[], None]) -> bool:
    with suppress(OSError), path.open("rb") as file:
        if _lock(file.fileno(), fcntl.LOCK_EX):
            act()
            return True
    return False
