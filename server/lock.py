"""One server for a data directory: a lock that the system gives back when the process dies, however it dies."""

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from steerzo_edge.errors import ConflictError

NAME: Final = "lock"


class DirectoryLock:
    """Holds a data directory for this process.

    Args:
        root: The data directory; made if missing, then for its owner alone.

    Raises:
        ConflictError: If another process, or another server of this one, holds it.
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
        """Lets another server have the directory."""
        if self.is_held:
            self.is_held = False
            os.close(self._file)

    def __del__(self) -> None:
        if getattr(self, "is_held", False):
            self.release()


def _keep_private(root: Path) -> None:
    """What an older server made for everybody to read becomes the owner's; new files are made so by the umask."""
    for path in (root / "datasets", root / "jobs", *root.glob("steerzo.sqlite*")):
        with suppress(OSError):  # missing, or another user's
            path.chmod(path.stat().st_mode & 0o700)
