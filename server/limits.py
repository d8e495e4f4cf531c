"""Who may come in, and with how much: ASGI wrappers around the whole app."""

import hmac

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.problems import TooLargeError, UnauthorizedError, respond

PUBLIC_PATHS = frozenset({"/healthz", "/readyz"})
UPLOAD_PATHS = frozenset({"/datasets", "/v1/files"})


class BodyLimit:
    """Refuses bodies above a limit while they arrive, whatever their Content-Length says.

    Args:
        app: What is wrapped.
        uploads: Limit in bytes of POST /datasets and /v1/files.
        others: Limit in bytes of every other request.
    """

    def __init__(self, app: ASGIApp, *, uploads: int, others: int) -> None:
        self._app = app
        self._uploads = uploads
        self._others = others

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._uploads if scope["path"].rstrip("/") in UPLOAD_PATHS else self._others
        error = TooLargeError(f"the body exceeds {limit} bytes")
        length = Headers(scope=scope).get("content-length", "0")
        if not length.isdigit() or int(length) > limit:
            await respond(error, scope["path"])(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                # An HTTPException, because FastAPI turns every other error while reading a body into a 400.
                raise HTTPException(413, str(error))
            return message

        await self._app(scope, counted, send)


class KeyRequired:
    """Asks for the API key on every route but the health checks.

    Args:
        app: What is wrapped.
        key: The key; compared in constant time.
    """

    def __init__(self, app: ASGIApp, *, key: str) -> None:
        self._app = app
        self._key = key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "http" and scope["path"] not in PUBLIC_PATHS:
            given = Headers(scope=scope).get("authorization", "")
            scheme, _, key = given.partition(" ")
            if scheme.lower() != "bearer" or not hmac.compare_digest(key.strip().encode(), self._key):
                error = UnauthorizedError("this server asks for an API key")
                await respond(error, scope["path"])(scope, receive, send)
                return
        await self._app(scope, receive, send)
