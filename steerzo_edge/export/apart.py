"""Runs an export in a process of its own: see `program.py`.

Loading a base changes settings of the whole process, and takes memory that a server may not have. The process ends
when its parent ends; if memory runs out, the system ends it before other processes.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from steerzo_edge.errors import (
    AdapterFileError,
    BaseModelError,
    BusyError,
    CapacityError,
    ConflictError,
    InputError,
    SteerzoError,
    StorageError,
)
from steerzo_edge.export.forms import Form

WAIT_S = 3600.0
POLL_S = 0.2
REFUSED: Final = 3
NO_MEMORY: Final = 4
_KINDS: Final = {
    kind.__name__: kind
    for kind in (
        AdapterFileError,
        BaseModelError,
        BusyError,
        CapacityError,
        ConflictError,
        InputError,
        StorageError,
    )
}
# No key and no token: the process that serves this base has put it into the cache.
_PASSED: Final = (
    *("PATH", "LD_LIBRARY_PATH", "PYTHONHOME", "HOME", "TMPDIR", "XDG_CACHE_HOME"),
    *("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "OMP_NUM_THREADS"),
)
_SET: Final = {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_WAIT_POLICY": "passive"}
_ROOT: Final = Path(__file__).parents[2]
_MOST_TRACE: Final = 4000


def export_apart(
    form: Form,
    adapter: Path,
    out: Path,
    name: str,
    *,
    revision: str | None = None,
    memory_bytes: int = 0,
    unwanted: Callable[[], bool] = lambda: False,
) -> None:
    """Writes an adapter in one of the forms; see `export`. Hub models are taken from the cache.

    Args:
        form: As in `export`.
        adapter: A PEFT directory.
        out: Path of the export; after an error, the caller removes partial files next to it.
        name: The base, as `load_base` takes it.
        revision: Commit, tag or branch of a hub model.
        memory_bytes: Limit of the process's memory; 0 for none.
        unwanted: Called a few times a second; True ends the process.

    Raises:
        SteerzoError: As `export`.
        OSError: As `export`.
        BusyError: If it became unwanted, or took longer than an hour.
        CapacityError: If it ran out of memory.
    """
    command = [sys.executable, "-P", "-m", "steerzo_edge.export.program", str(memory_bytes)]
    # The process reads one end of a pipe; this process holds the other end. When that is closed, also by a kill,
    # the export process ends.
    theirs, ours = os.pipe()
    try:
        process = subprocess.Popen(
            [*command, form, str(adapter), str(out), name, revision or ""],
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_environment(),
        )
    except BaseException:
        os.close(ours)
        raise
    finally:
        os.close(theirs)
    try:
        with process:
            try:
                output, trace = _ended(process, unwanted)
            finally:
                process.kill()
    finally:
        os.close(ours)
    _raise(process.returncode, output, trace)


def _environment() -> dict[str, str]:
    paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    kept = {name: os.environ[name] for name in _PASSED if name in os.environ}
    return {**kept, **_SET, "PYTHONPATH": os.pathsep.join(paths)}


def _ended(process: subprocess.Popen[bytes], unwanted: Callable[[], bool]) -> tuple[bytes, bytes]:
    until = time.monotonic() + WAIT_S
    while True:
        try:
            return process.communicate(timeout=POLL_S)
        except subprocess.TimeoutExpired:
            if unwanted():
                raise BusyError("the export was stopped, because it is no longer wanted") from None
            if time.monotonic() > until:
                raise BusyError(f"the export was stopped after {WAIT_S:.0f} seconds") from None


def _raise(status: int, output: bytes, trace: bytes) -> None:
    if status == 0:
        return
    if status == REFUSED:
        raise _refusal(json.loads(output))
    if status in (NO_MEMORY, -9):
        raise CapacityError(
            "the export ran out of memory",
            hint="Download the adapter, and run `steerzo export ADAPTER_DIR --out DIR` with more memory.",
        )
    cause = RuntimeError(f"exit status {status}: {trace.decode(errors='replace')[-_MOST_TRACE:]}")
    raise SteerzoError("the export failed; the server's log has the details") from cause


def _refusal(refused: dict[str, Any]) -> Exception:
    if refused["kind"] == "OSError":
        return OSError(refused["errno"], refused["message"])
    return _KINDS[refused["kind"]](refused["message"], hint=refused["hint"])
