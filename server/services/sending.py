"""An export on its way to a client: given up when the client leaves, let go of when the last byte is sent."""

import asyncio
from collections.abc import Callable
from threading import Event
from typing import Protocol

from fastapi import Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from server.services.exports import Export
from server.services.zipped import zipped

POLL_S = 0.5


class Exporting(Protocol):
    """Makes an export on a thread; ends early if it is unwanted."""

    def __call__(self, *, unwanted: Callable[[], bool]) -> Export:
        """The files, open."""
        ...


async def sent(request: Request, exporting: Exporting, name: str) -> Response:
    """An export as a zip.

    Args:
        request: Who asks.
        exporting: What makes it.
        name: Of the file, without its suffix.

    Raises:
        SteerzoError: As `exporting`.
    """
    left = Event()
    making = asyncio.create_task(run_in_threadpool(exporting, unwanted=left.is_set))
    try:
        while not (await asyncio.wait({making}, timeout=POLL_S))[0]:
            if await request.is_disconnected():
                left.set()
        return _Download(making.result(), name)
    except asyncio.CancelledError:
        left.set()
        making.add_done_callback(_discard)
        raise


def attachment(name: str) -> dict[str, str]:
    """The header that names a zip."""
    return {"Content-Disposition": f'attachment; filename="{name}.zip"'}


def _discard(making: asyncio.Task[Export]) -> None:
    if not making.cancelled() and making.exception() is None:
        making.result().close()


class _Download(StreamingResponse):
    """Closes what it sends, however the sending ends."""

    def __init__(self, export: Export, name: str) -> None:
        super().__init__(zipped(export.files), media_type="application/zip", headers=attachment(name))
        self._export = export

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._export.close()
