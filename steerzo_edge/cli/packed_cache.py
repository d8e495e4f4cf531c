"""The packed copies of bases that the commands without a server keep, for one user of this machine."""

import os
from pathlib import Path
from typing import Final

from steerzo_edge.errors import InputError
from steerzo_edge.model.packed.cache import MOST_BYTES, PackedCache

DIRECTORY: Final = "STEERZO_PACKED_DIR"
LIMIT: Final = "STEERZO_MAX_PACKED_BYTES"


def user_cache(directory: Path | None = None) -> PackedCache | None:
    """The cache; None if it is turned off.

    Args:
        directory: Instead of STEERZO_PACKED_DIR, or `steerzo/packed` in the user's cache directory.

    Raises:
        InputError: If STEERZO_MAX_PACKED_BYTES is no number of bytes.
    """
    limit = os.environ.get(LIMIT) or str(MOST_BYTES)
    if not limit.isdecimal():
        raise InputError(f"{LIMIT} is {limit!r}, and it must be a number of bytes", hint="0 turns the cache off.")
    return PackedCache(directory or _directory(), int(limit)) if int(limit) else None


def _directory() -> Path:
    named = os.environ.get(DIRECTORY)
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "steerzo" / "packed"
