"""Limits on the size of request bodies, and on how slowly they may arrive."""

import asyncio
from typing import Final

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.access.refusal import refuse
from server.errors import TooLargeError

UPLOADS: Final = frozenset({"/datasets", "/v1/files", "/adapters"})
LEAST_BYTES_PER_S: Final = 16 << 10


class BodyLimits:
    """Rejects bodies above a limit, whatever their Content-Length says, and bodies that arrive too slowly.

    Args:
        app: The wrapped app.
        uploads: Limit in bytes of uploads.
        others: Limit in bytes of every other request.
        patience_s: How long a body may take; each 16 KiB that arrive extend the time by a second.
    """

    def __init__(self, app: ASGIApp, *, uploads: int, others: int, patience_s: float) -> None:
        self._app = app
        self._uploads = uploads
        self._others = others
        self._patience_s = patience_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._uploads if scope["path"].rstrip("/") in UPLOADS else self._others
        length = Headers(scope=scope).get("content-length", "0")
        if not (length.isascii() and length.isdigit()) or int(length[:20]) > limit:
            await refuse(_too_large(limit), scope, receive, send)
            return
        body = _Body(receive, limit, self._patience_s)
        await self._app(scope, body.receive, send)


class _Body:
    """The messages of one request: counted and timed until the body is complete, then passed on unchanged."""

    def __init__(self, receive: Receive, limit: int, patience_s: float) -> None:
        self._receive = receive
        self._limit = limit
        self._patience_s = patience_s
        self._began: float | None = None
        self._bytes = 0
        self._whole = False

    async def receive(self) -> Message:
        """The next message.

        Raises:
            HTTPException: 413 or 408. While it reads a body, FastAPI would turn any other error into a 400.
        """
        if self._whole:
            return await self._receive()
        message = await self._in_time()
        self._bytes += len(message.get("body", b""))
        if self._bytes > self._limit:
            raise HTTPException(413, str(_too_large(self._limit)))
        self._whole = not message.get("more_body", False)
        return message

    async def _in_time(self) -> Message:
        now = asyncio.get_running_loop().time()
        self._began = now if self._began is None else self._began
        until = self._began + self._patience_s + self._bytes / LEAST_BYTES_PER_S
        try:
            async with asyncio.timeout_at(until):
                return await self._receive()
        except TimeoutError:
            raise HTTPException(408, f"{self._bytes} bytes of the body arrived in time, the rest did not") from None


def _too_large(limit: int) -> TooLargeError:
    return TooLargeError(f"the body exceeds {limit} bytes")
