"""Exports of a running server.

For a whole model the base is loaded a second time, in 16 bits, on the CPU; one at a time.
"""

import shutil
from pathlib import Path
from typing import BinaryIO

import torch

from server.adapters.register import AdapterRow
from server.adapters.zipped import opened
from server.context import Context
from server.data.storage import told_as_storage
from steerzo_edge.errors import BaseModelError, BusyError, ConflictError
from steerzo_edge.estimate.advice import free_bytes
from steerzo_edge.estimate.anatomy import anatomy, load_config
from steerzo_edge.export.forms import WHOLE_MODELS, Form, export


def exported_files(server: Context, row: AdapterRow, form: Form) -> dict[str, BinaryIO]:
    """The files of an adapter in another form; they are gone from the disk as soon as they are closed.

    Args:
        server: The server's parts.
        row: The adapter.
        form: Which.

    Raises:
        ConflictError: If the base does not allow the form, a package is missing, or a merged model does not agree.
        BusyError: If another whole model is being exported.
        NotReadyError: If the base is still loading.
        AdapterFileError: If the adapter's files are damaged.
        StorageError: If the disk is full or fails.
    """
    base = server.device.base
    server.adapters.cache.check(row)
    if form not in WHOLE_MODELS:
        return _written(server, row, base.name, form)
    if not server.adapters.merging.acquire(blocking=False):
        raise BusyError("another merged export is under way")
    try:
        return _written(server, row, base.name, form)
    finally:
        server.adapters.merging.release()


def _written(server: Context, row: AdapterRow, base: str, form: Form) -> dict[str, BinaryIO]:
    try:
        with told_as_storage():
            return _exported(server, row, base, form)
    except BaseModelError as error:
        raise ConflictError(f"the base cannot be exported so: {error}", hint=error.hint) from None


def _exported(server: Context, row: AdapterRow, base: str, form: Form) -> dict[str, BinaryIO]:
    revision = server.settings.model.revision
    if form in WHOLE_MODELS:
        _check_room(server, base, revision)
    directory: Path = server.adapters.files.fresh()
    try:
        made = directory / "made"
        out = made if form == "merged" else made / f"{row.id}.gguf"
        export(form, server.adapters.files.directory(row), out, base, revision=revision)
        return opened(made)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _check_room(server: Context, base: str, revision: str | None) -> None:
    needed = anatomy(load_config(base, revision)).weight_bytes("none", 2)
    free = free_bytes(torch.device("cpu"))
    if needed > free:
        raise ConflictError(
            f"the base has {needed >> 20} MiB in 16 bits, {free >> 20} MiB of memory are free",
            hint="Download the adapter, and run `steerzo export ADAPTER_DIR --out DIR` where there is more memory.",
        )
    server.room.check_disk(needed)
