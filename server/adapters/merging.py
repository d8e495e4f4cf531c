"""Merged exports of a running server: the base is loaded a second time, in 16 bits, on the CPU; one at a time."""

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
from steerzo_edge.model.merged import export_merged


def merged_files(server: Context, row: AdapterRow) -> dict[str, BinaryIO]:
    """The files of a checkpoint of base and adapter; they are gone from the disk as soon as they are closed.

    Args:
        server: The server's parts.
        row: The adapter.

    Raises:
        ConflictError: If the base cannot be had in 16 bits, or the merged model does not agree.
        BusyError: If another export is under way.
        NotReadyError: If the base is still loading.
        AdapterFileError: If the adapter's files are damaged.
        StorageError: If the disk is full or fails.
    """
    base = server.device.base
    server.adapters.cache.check(row)
    if not server.adapters.merging.acquire(blocking=False):
        raise BusyError("another merged export is under way")
    try:
        with told_as_storage():
            return _merged(server, row, base.name)
    except BaseModelError as error:
        raise ConflictError(f"the base cannot be had in 16 bits: {error}", hint=error.hint) from None
    finally:
        server.adapters.merging.release()


def _merged(server: Context, row: AdapterRow, base: str) -> dict[str, BinaryIO]:
    revision = server.settings.model.revision
    needed = anatomy(load_config(base, revision)).weight_bytes("none", 2)
    free = free_bytes(torch.device("cpu"))
    if needed > free:
        raise ConflictError(
            f"the base has {needed >> 20} MiB in 16 bits, {free >> 20} MiB of memory are free",
            hint="Download the adapter, and run `steerzo export ADAPTER_DIR --out DIR` where there is more memory.",
        )
    server.room.check_disk(needed)
    directory: Path = server.adapters.files.fresh()
    try:
        out = directory / "merged"
        export_merged(server.adapters.files.directory(row), out, base, revision=revision)
        return opened(out)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
