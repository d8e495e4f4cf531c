"""Exports adapters in other forms: one at a time until it is sent, each in a process of its own.

To export a whole model, that process loads the base a second time, in 16 bits, on the CPU.
"""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import BinaryIO, Final

import torch

from server.services.context import Context
from server.services.zip_stream import opened
from server.store.adapters import AdapterRow
from server.system_errors import disk_errors_as_storage_errors
from steerzo_edge.errors import BaseModelError, BusyError, ConflictError
from steerzo_edge.estimate.anatomy import anatomy
from steerzo_edge.estimate.free import free_bytes
from steerzo_edge.export.apart import export_apart
from steerzo_edge.export.forms import DIRECTORIES, WHOLE_MODELS, Form
from steerzo_edge.model.base import Base
from steerzo_edge.model.merged import PROMPTS

# The check of a merged model holds the logits of three models, and three intermediate results of the same size.
LOGITS: Final = 6
# The process's address space is limited to far more than it needs: weights count for the mapped file and each copy.
SLACK: Final = 3
SLACK_BYTES: Final = 4 << 30


@dataclass(frozen=True, slots=True)
class ExportNeeds:
    """The memory and disk that an export needs.

    Args:
        memory_bytes: Peak memory.
        disk_bytes: Bytes of its files.
    """

    memory_bytes: int
    disk_bytes: int


class Export:
    """An export's files, deleted already but held open: closing them frees the disk.

    Args:
        files: Open files by name.
        lock: The export lock, held until the files are closed.
    """

    def __init__(self, files: Mapping[str, BinaryIO], lock: Lock) -> None:
        self.files = files
        self._lock: Lock | None = lock

    def close(self) -> None:
        """Closes the files, and releases the export lock; a second call does nothing."""
        lock, self._lock = self._lock, None
        if lock is None:
            return
        try:
            for file in self.files.values():
                file.close()
        finally:
            lock.release()


def exported(
    server: Context, row: AdapterRow, form: Form, *, unwanted: Callable[[], bool] = lambda: False
) -> Export:
    """Exports an adapter in another form; the caller closes the result.

    Args:
        server: The server's parts.
        row: The adapter.
        form: The form.
        unwanted: Whether the client has gone; asked a few times a second.

    Raises:
        ConflictError: If the base does not allow the form, a package is missing, the free memory is too small, or a
            merged model fails its check.
        BusyError: If another export is under way or still being sent, or this one became unwanted.
        CapacityError: If the process ran out of memory although the check had passed.
        NotReadyError: If the base is still loading.
        AdapterFileError: If the adapter's files are damaged.
        NoRoomError: If the disk or the quota does not hold it.
        StorageError: If the disk is full or fails.
    """
    base = server.device.base
    server.adapters.cache.check(row)
    lock = server.adapters.export_lock
    if not lock.acquire(blocking=False):
        raise BusyError("another export is under way, or still being sent")
    try:
        with disk_errors_as_storage_errors():
            return Export(_written(server, row, form, base, unwanted), lock)
    except BaseException as error:
        lock.release()
        if isinstance(error, BaseModelError):
            raise ConflictError(f"the base cannot be exported in this form: {error}", hint=error.hint) from None
        raise


def export_needs(form: Form, base: Base, adapter: Path) -> ExportNeeds:
    """The memory and disk that an export needs.

    Memory holds the weights, a float32 copy of the largest weight, and the logits of the check.

    Args:
        form: The form.
        base: The loaded base.
        adapter: A PEFT directory.
    """
    body = anatomy(base.model.config)
    own = sum(path.stat().st_size for path in adapter.iterdir())
    if form not in WHOLE_MODELS:
        return ExportNeeds(4 * own, 2 * own)  # 16 bits become 32
    weights = body.weight_bytes("none", 2)
    largest = 4 * max(body.largest_weight, body.vocabulary * body.hidden)
    tokens = sum(len(prompt.encode()) for prompt in PROMPTS)  # a prompt has no more tokens than bytes
    return ExportNeeds(weights + largest + LOGITS * 4 * tokens * body.vocabulary + own, weights)


def _written(
    server: Context, row: AdapterRow, form: Form, base: Base, unwanted: Callable[[], bool]
) -> dict[str, BinaryIO]:
    adapter = server.adapters.files.directory(row)
    needed = export_needs(form, base, adapter)
    _check_room(server, needed)
    directory = server.adapters.files.outgoing()
    try:
        made = directory / "made"
        export_apart(
            form,
            adapter,
            made if form in DIRECTORIES else made / f"{row.id}.gguf",
            base.name,
            revision=server.settings.model.revision,
            memory_bytes=SLACK * needed.memory_bytes + SLACK_BYTES,
            unwanted=lambda: server.notifier.closed or unwanted(),
        )
        return opened(made)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _check_room(server: Context, needed: ExportNeeds) -> None:
    free = free_bytes(torch.device("cpu"))
    if needed.memory_bytes > free:
        raise ConflictError(
            f"the export needs {needed.memory_bytes >> 20} MiB of memory, {free >> 20} MiB are free",
            hint="Download the adapter, and run `steerzo export ADAPTER_DIR --out DIR` where there is more memory.",
        )
    server.quota.check(needed.disk_bytes, datasets=False)
