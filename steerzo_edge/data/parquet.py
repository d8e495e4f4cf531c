"""Reads Parquet as JSON lines, in a process of its own because a damaged file may end it: see `unfold.py`.

Row N is line N.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from steerzo_edge.errors import DatasetError, Fault

MAGIC: Final = b"PAR1"
MOST_ROWS = 1_000_000
MOST_VALUES = 16 << 20
MOST_BYTES = 256 << 20
WAIT_S = 300.0
_PROGRAM = Path(__file__).with_name("unfold.py")
_REFUSED = 3
# The process reads files from unknown senders, so it is given no other environment variables: they may hold keys.
_PASSED = ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHOME")
_QUIET = {"ARROW_DEFAULT_MEMORY_POOL": "system", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def is_parquet(data: bytes) -> bool:
    """Whether a file begins like Parquet."""
    return data.startswith(MAGIC)


def parquet_text(data: bytes, name: str, first: int | None = None) -> str:
    """The rows of a file as JSON lines; a null counts as a missing field.

    Args:
        data: The file.
        name: What to call it.
        first: How many rows are wanted; None for all.

    Raises:
        DatasetError: If the file is damaged, or too large once it is unpacked.
    """
    limits = (MOST_ROWS, MOST_VALUES, MOST_BYTES, first or 0)
    command = [sys.executable, "-P", str(_PROGRAM), *map(str, limits)]
    environment = {name: os.environ[name] for name in _PASSED if name in os.environ} | _QUIET
    try:
        done = subprocess.run(
            command, input=data, capture_output=True, check=False, env=environment, timeout=WAIT_S
        )
    except subprocess.TimeoutExpired:
        raise _damaged(name, 1, f"reading it took more than {WAIT_S:.0f} seconds") from None
    row = done.stdout.count(b"\n") + 1
    if done.returncode == _REFUSED:
        refusal = json.loads(done.stderr)
        raise (_too_large if refusal["large"] else _damaged)(name, row, refusal["reason"])
    if done.returncode != 0:
        raise _damaged(name, row, "the reader failed, or needed too much memory")
    return done.stdout.decode()


def _too_large(name: str, row: int, reason: str) -> DatasetError:
    fault = Fault(f"line {row}", "", reason, "split the file")
    return DatasetError(f"{name}: {reason}", faults=[fault], hint="Split the file.")


def _damaged(name: str, row: int, reason: str) -> DatasetError:
    fault = Fault(f"line {row}", "", reason, "write the file again")
    return DatasetError(
        f"{name}: the Parquet file cannot be read from row {row} on: {reason}",
        faults=[fault],
        hint="Write the file again, or upload JSON lines.",
    )
