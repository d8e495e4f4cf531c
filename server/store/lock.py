"""Lets one server use a data directory: a file lock, which the system releases when the process ends."""

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from steerzo_edge.errors import ConflictError

NAME: Final = "lock"


class DirectoryLock:
    """Locks a data directory for this server.

    Args:
        root: The data directory; made if missing, readable by its owner alone.

    Raises:
        ConflictError: If another server holds it, in this process or another.
    """

    def __init__(self, root: Path) -> None:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = os.open(root / NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._file, 20, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._file)
            raise ConflictError(
                f"{root} belongs to a running server (process {holder})",
                hint="Stop that server first, or use another --data-dir.",
            ) from None
        self.is_held = True
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)
        _keep_private(root)

    def release(self) -> None:
        """Releases the lock, so that another server can use the directory."""
        if self.is_held:
            self.is_held = False
            os.close(self._file)

    def __del__(self) -> None:
        if getattr(self, "is_held", False):
            self.release()


def _keep_private(root: Path) -> None:
    """Removes other users' access to files that older servers made readable; the umask protects new files."""
    for path in (root / "datasets", root / "jobs", *root.glob("steerzo.sqlite*")):
        with suppress(OSError):  # missing, or another user's
            path.chmod(path.stat().st_mode & 0o700)
