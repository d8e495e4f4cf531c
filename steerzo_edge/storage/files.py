"""Atomic writes: a file is written under a temporary name, synced, then renamed, so it is complete or absent."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Lets `write` fill a temporary file in the same directory, then renames it to `path`.

    Args:
        path: Of the file; its directory must exist.
        write: Called with the temporary path.

    Raises:
        OSError: If the disk is full or fails; an old file at `path` stays as it was.
    """
    temporary = path.with_name(f".{path.name}.partial")
    try:
        write(temporary)
        sync_file(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(path.parent)


def write_bytes(path: Path, data: bytes) -> None:
    """Writes bytes atomically.

    Raises:
        OSError: As `write_whole`.
    """
    write_whole(path, lambda temporary: _write(temporary, data))


def write_json(path: Path, value: Any) -> None:
    """Writes JSON atomically, with sorted keys, so that equal values give equal bytes."""
    text = json.dumps(value, indent=2, sort_keys=True) + "\n"
    write_bytes(path, text.encode())


def sync_file(path: Path) -> None:
    """Waits until a file's bytes are on the disk.

    Raises:
        OSError: If the disk fails.
    """
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_directory(directory: Path) -> None:
    """Syncs a directory, so that renames in it survive a power cut."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)
