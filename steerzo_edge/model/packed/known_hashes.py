"""Remembers the hash of files that were read once, so that a file of many gigabytes is not read at every start.

A file counts as the same as long as its place, inode, size, and times of change are; the time of the last change of
its inode cannot be set back.
"""

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from steerzo_edge.storage.digest import digest_of
from steerzo_edge.storage.files import write_json

_MOST: Final = 1000


class KnownHashes:
    """Hashes of files by what the system says about them.

    Args:
        path: The file that remembers them; a damaged one is begun anew, one that cannot be written is left out.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def of(self, files: Sequence[Path]) -> str:
        """One hash of the names and bytes of some files, in their order; only files not known yet are read.

        Args:
            files: On this machine.

        Raises:
            OSError: If one of them cannot be read.
        """
        known = self._read()
        found = [(_facts(file), file) for file in files]
        fresh = {facts: _hashed(file) for facts, file in found if facts not in known}
        if fresh:
            known |= fresh
            with suppress(OSError):
                write_json(self._path, dict(list(known.items())[-_MOST:]))
        parts = [[file.name, known[facts]] for facts, file in found]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def _read(self) -> dict[str, str]:
        try:
            found = json.loads(self._path.read_bytes())
        except (OSError, ValueError):
            return {}
        is_sound = isinstance(found, dict) and all(isinstance(value, str) for value in found.values())
        return found if is_sound else {}


def _hashed(file: Path) -> str:
    with file.open("rb") as opened:
        return digest_of(opened.fileno())


def _facts(file: Path) -> str:
    facts = file.stat()
    return json.dumps(
        [str(file.resolve()), facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns]
    )
