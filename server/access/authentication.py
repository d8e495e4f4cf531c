"""Requires an API key for every route, except the two health routes and the page's own files."""

from collections.abc import Iterable
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from server.access.rate_limits import RateLimits, neighbourhood
from server.access.refusal import refuse
from server.errors import TooOftenError, UnauthorizedError
from server.store.keys import Keys

PUBLIC_PATHS: Final = frozenset({"/healthz", "/readyz"})


class Authentication:
    """Rejects requests without a valid key, and limits requests per key or client address.

    Args:
        app: The wrapped app.
        keys: The keys.
        rates: The rate limit.
        is_public: Whether other machines can reach the address; if so, a key is required even if none exists.
        open_paths: Further paths that need no key: files without data, the same for every client.
    """

    def __init__(
        self, app: ASGIApp, *, keys: Keys, rates: RateLimits, is_public: bool, open_paths: Iterable[str] = ()
    ) -> None:
        self._app = app
        self._keys = keys
        self._rates = rates
        self._is_public = is_public
        self._open = PUBLIC_PATHS.union(open_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] == "http" and scope["path"] not in self._open:
            error = self._objection(scope)
            if error is not None:
                await refuse(error, scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _objection(self, scope: Scope) -> UnauthorizedError | TooOftenError | None:
        scheme, _, key = Headers(scope=scope).get("authorization", "").partition(" ")
        holder = self._keys.holder(key.strip()) if scheme.lower() == "bearer" else None
        address = neighbourhood(scope["client"][0] if scope.get("client") else None)
        try:
            self._rates.take(f"address {address}" if holder is None else f"key {holder}")
        except TooOftenError as error:
            return error
        if holder is None and (self._is_public or self._keys.are_required):
            return UnauthorizedError("this server requires an API key")
        return None
