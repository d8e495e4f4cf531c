"""Files that are whole or not there: written under a temporary name, synced, renamed."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Lets `write` fill a temporary file beside `path`, then puts it in its place.

    Args:
        path: Where the file will be; its directory must exist.
        write: Given the temporary path.

    Raises:
        OSError: If the disk is full or fails; the old file, if any, is untouched.
    """
    temporary = path.with_name(f".{path.name}.partial")
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(path.parent)


def write_bytes(path: Path, data: bytes) -> None:
    """The same for bytes that are at hand.

    Raises:
        OSError: As `write_whole`.
    """
    write_whole(path, lambda temporary: _write(temporary, data))


def write_json(path: Path, value: Any) -> None:
    """JSON with sorted keys, so that equal values give equal bytes."""
    text = json.dumps(value, indent=2, sort_keys=True) + "\n"
    write_bytes(path, text.encode())


def sync_directory(directory: Path) -> None:
    """Makes renames inside a directory survive a power cut."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)
