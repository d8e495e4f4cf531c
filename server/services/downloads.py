"""Adapters as downloads: the stored directory at once, or an export that a background process makes first.

An export is abandoned when its client disconnects, and its files are released once the last byte is sent.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from threading import Event
from typing import Protocol

from fastapi import Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from server.services.context import Context
from server.services.exports import Export, exported
from server.services.zip_stream import opened, zipped
from server.store.adapters import AdapterRow
from steerzo_edge.errors import AdapterFileError
from steerzo_edge.export.forms import Form

POLL_S = 0.5


class Exporting(Protocol):
    """Makes an export on a thread; ends early once it is unwanted."""

    def __call__(self, *, unwanted: Callable[[], bool]) -> Export:
        """The export's files, open."""
        ...


async def adapter_download(
    request: Request, server: Context, row: AdapterRow, form: Form, *, name: str | None = None
) -> Response:
    """An adapter in one of its forms, as a zip.

    Args:
        request: The request; an export ends when its client disconnects.
        server: The server's parts.
        row: The adapter.
        form: The form; "peft" is the directory as it is stored.
        name: The file's name without its suffix; by default the adapter's id.

    Raises:
        AdapterFileError: If the adapter's files are missing.
        ConflictError: If the adapter cannot be exported in that form.
        BusyError: If another export is under way, or still being sent.
        NoRoomError: If the disk or the quota does not hold the export.
    """
    if form != "peft":
        return await export_response(request, partial(exported, server, row, form), f"{name or row.id}-{form}")
    try:
        files = await run_in_threadpool(opened, server.adapters.files.directory(row))
    except FileNotFoundError:
        raise AdapterFileError(f"the files of adapter {row.id} are missing") from None
    headers = {**_attachment(name or row.id), "X-Adapter-SHA256": row.sha256}
    return StreamingResponse(zipped(files), media_type="application/zip", headers=headers)


async def export_response(request: Request, exporting: Exporting, name: str) -> Response:
    """Makes an export on a thread and sends it as a zip.

    Args:
        request: The request; if its client disconnects, the export is abandoned.
        exporting: Makes the export.
        name: The file's name without its suffix.

    Raises:
        SteerzoError: As `exporting`.
    """
    left = Event()
    making = asyncio.create_task(run_in_threadpool(exporting, unwanted=left.is_set))
    try:
        while not (await asyncio.wait({making}, timeout=POLL_S))[0]:
            if await request.is_disconnected():
                left.set()
        return _ExportResponse(making.result(), name)
    except asyncio.CancelledError:
        left.set()
        making.add_done_callback(_discard)
        raise


def _attachment(name: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{name}.zip"'}


def _discard(making: asyncio.Task[Export]) -> None:
    if not making.cancelled() and making.exception() is None:
        making.result().close()


class _ExportResponse(StreamingResponse):
    """Sends an export and closes it, even if sending fails."""

    def __init__(self, export: Export, name: str) -> None:
        super().__init__(zipped(export.files), media_type="application/zip", headers=_attachment(name))
        self._export = export

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._export.close()
