"""Whether a server can do its work: not that its parts are there, but that they answer."""

import logging
import os
import sqlite3
import time
from typing import Final

from server.problems import NoRoomError, NotReadyError
from server.services.context import Context

log = logging.getLogger(__name__)
PROBE: Final = ".writable"
# Anybody may ask, and each look at the disk is a flush: not more often than this.
FRESH_S: Final = 1.0


def check(server: Context) -> None:
    """Looks at every part.

    Raises:
        NotReadyError: Naming the first that does not work, without paths: this is told to anybody.
    """
    if server.failure is not None:
        raise NotReadyError(
            "the base cannot be loaded", hint="The server's log says why; start it with another base."
        )
    _ = server.device.base
    if not server.device.is_alive:
        raise NotReadyError("the device's thread has ended", hint="Restart the server; jobs go on where they were.")
    if server.device.quantum_s > server.settings.stuck_after_s:
        raise NotReadyError(
            f"the device has been at one piece of work for {server.device.quantum_s:.0f} s",
            hint="Restart the server, or raise stuck_after_s if that is how long a piece takes here.",
        )
    if not server.lock.is_held:
        raise NotReadyError("the data directory is not locked", hint="The server is about to end.")
    if time.monotonic() - server.wrote_at > FRESH_S:
        _write(server)
        server.wrote_at = time.monotonic()


def _write(server: Context) -> None:
    try:
        server.room.check_disk()
        probe = server.library.root / PROBE
        handle = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.write(handle, b"x" * 4096)
            os.fsync(handle)
        finally:
            os.close(handle)
            probe.unlink()
        with server.database.writing() as db:
            version = int(db.execute("PRAGMA user_version").fetchone()[0])
            db.execute(f"PRAGMA user_version = {version}")
    except NoRoomError as error:
        raise NotReadyError(str(error), hint="Free some space.") from None
    except (OSError, sqlite3.Error) as error:
        log.warning("the data directory takes no writes", exc_info=error)
        raise NotReadyError("the data directory takes no writes", hint="The server's log says why.") from None
