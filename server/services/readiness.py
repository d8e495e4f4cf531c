"""Checks whether a server can do its work, by using its parts: device, disk and database."""

import logging
import os
import sqlite3
import time
from typing import Final

from server.errors import NoRoomError, NotReadyError
from server.services.context import Context

log = logging.getLogger(__name__)
PROBE: Final = ".writable"
# The route needs no key, and each check writes to the disk: so it is made once a second at most.
FRESH_S: Final = 1.0


def check(server: Context) -> None:
    """Checks every part.

    Raises:
        NotReadyError: Naming the first part that does not work, without paths, because the route needs no key.
    """
    if server.failure is not None:
        raise NotReadyError(
            "the base cannot be loaded", hint="The server's log says why; start it with another base."
        )
    _ = server.device.base
    if not server.device.is_alive:
        raise NotReadyError(
            "the device's thread has ended", hint="Restart the server; jobs continue from their last step."
        )
    if server.device.time_slice_s > server.settings.stuck_after_s:
        raise NotReadyError(
            f"the present time slice of the device has taken {server.device.time_slice_s:.0f} s so far",
            hint="Restart the server, or raise stuck_after_s if time slices take that long here.",
        )
    if not server.lock.is_held:
        raise NotReadyError("the data directory is not locked", hint="The server is about to end.")
    if time.monotonic() - server.wrote_at > FRESH_S:
        _write(server)
        server.wrote_at = time.monotonic()


def _write(server: Context) -> None:
    try:
        server.quota.check_disk()
        probe = server.directory.root / PROBE
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
        log.warning("the data directory cannot be written", exc_info=error)
        raise NotReadyError("the data directory cannot be written", hint="The server's log says why.") from None
