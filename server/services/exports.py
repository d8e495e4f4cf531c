"""Exports of a running server: one at a time, until it is sent, and made by a process of its own.

For a whole model that process loads the base a second time, in 16 bits, on the CPU.
"""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import BinaryIO, Final

import torch

from server.services.context import Context
from server.services.zipped import opened
from server.store.adapters import AdapterRow
from server.store.full_disk import told_as_storage
from steerzo_edge.errors import BaseModelError, BusyError, ConflictError
from steerzo_edge.estimate.advice import free_bytes
from steerzo_edge.estimate.anatomy import anatomy
from steerzo_edge.export.apart import export_apart
from steerzo_edge.export.forms import WHOLE_MODELS, Form
from steerzo_edge.model.base import Base
from steerzo_edge.model.merged import PROMPTS

# Of the check of a merged model: the predictions of three models, and three passing products of them.
LOGITS: Final = 6
# The limit of the process is far above what it needs: a weight counts for its file, its copy and its place there.
SLACK: Final = 3
SLACK_BYTES: Final = 4 << 30


@dataclass(frozen=True, slots=True)
class Needs:
    """What an export takes.

    Args:
        memory_bytes: At its peak.
        disk_bytes: Of its files.
    """

    memory_bytes: int
    disk_bytes: int


class Export:
    """An export's files; they are gone from the disk as soon as they are closed.

    Args:
        files: By name, open.
        turn: The lock that is held until they are closed.
    """

    def __init__(self, files: Mapping[str, BinaryIO], turn: Lock) -> None:
        self.files = files
        self._turn: Lock | None = turn

    def close(self) -> None:
        """Closes the files, and lets the next export begin; a second call does nothing."""
        turn, self._turn = self._turn, None
        if turn is None:
            return
        try:
            for file in self.files.values():
                file.close()
        finally:
            turn.release()


def exported(
    server: Context, row: AdapterRow, form: Form, *, unwanted: Callable[[], bool] = lambda: False
) -> Export:
    """The files of an adapter in another form. Close them.

    Args:
        server: The server's parts.
        row: The adapter.
        form: Which.
        unwanted: Whether nobody waits for it any more; asked a few times a second.

    Raises:
        ConflictError: If the base does not allow the form, a package is missing, or a merged model does not agree.
        BusyError: If another export is under way or still being sent, or this one became unwanted.
        CapacityError: If the memory did not suffice after all.
        NotReadyError: If the base is still loading.
        AdapterFileError: If the adapter's files are damaged.
        NoRoomError: If the disk or the quota does not hold it.
        StorageError: If the disk is full or fails.
    """
    base = server.device.base
    server.adapters.cache.check(row)
    turn = server.adapters.merging
    if not turn.acquire(blocking=False):
        raise BusyError("another export is under way, or still being sent")
    try:
        with told_as_storage():
            return Export(_written(server, row, form, base, unwanted), turn)
    except BaseException as error:
        turn.release()
        if isinstance(error, BaseModelError):
            raise ConflictError(f"the base cannot be exported so: {error}", hint=error.hint) from None
        raise


def needs(form: Form, base: Base, adapter: Path) -> Needs:
    """What an export takes: of memory the weights, float32 copies of the largest, and the check's logits.

    Args:
        form: Which.
        base: The loaded one.
        adapter: A PEFT directory.
    """
    body = anatomy(base.model.config)
    own = sum(path.stat().st_size for path in adapter.iterdir())
    if form not in WHOLE_MODELS:
        return Needs(4 * own, 2 * own)  # 16 bits become 32
    weights = body.weight_bytes("none", 2)
    largest = 4 * max(body.largest_weight, body.vocabulary * body.hidden)
    tokens = sum(len(prompt.encode()) for prompt in PROMPTS)  # no more than bytes
    return Needs(weights + largest + LOGITS * 4 * tokens * body.vocabulary + own, weights)


def _written(
    server: Context, row: AdapterRow, form: Form, base: Base, unwanted: Callable[[], bool]
) -> dict[str, BinaryIO]:
    adapter = server.adapters.files.directory(row)
    needed = needs(form, base, adapter)
    _check_room(server, needed)
    directory = server.adapters.files.passing()
    try:
        made = directory / "made"
        export_apart(
            form,
            adapter,
            made if form == "merged" else made / f"{row.id}.gguf",
            base.name,
            revision=server.settings.model.revision,
            memory_bytes=SLACK * needed.memory_bytes + SLACK_BYTES,
            unwanted=lambda: server.bell.closed or unwanted(),
        )
        return opened(made)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _check_room(server: Context, needed: Needs) -> None:
    free = free_bytes(torch.device("cpu"))
    if needed.memory_bytes > free:
        raise ConflictError(
            f"the export needs {needed.memory_bytes >> 20} MiB of memory, {free >> 20} MiB are free",
            hint="Download the adapter, and run `steerzo export ADAPTER_DIR --out DIR` where there is more memory.",
        )
    server.room.check(needed.disk_bytes, datasets=False)
