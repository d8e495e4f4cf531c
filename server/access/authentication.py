"""The door: every route is closed but the two that say whether the server is well, and the page's own files."""

from collections.abc import Iterable
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from server.access.keys import Keys
from server.access.rates import Rates, neighbourhood
from server.access.refusal import refuse
from server.problems import TooOftenError, UnauthorizedError

PUBLIC_PATHS: Final = frozenset({"/healthz", "/readyz"})


class Authentication:
    """Asks for a key where keys are asked for, and counts how often whoever comes has come.

    Args:
        app: What is wrapped.
        keys: Who may come in.
        rates: How often.
        is_public: Whether the address can be reached by others; then a key is asked for even if there is none.
        open_paths: Further paths that need no key: files that are the same for everybody.
    """

    def __init__(
        self, app: ASGIApp, *, keys: Keys, rates: Rates, is_public: bool, open_paths: Iterable[str] = ()
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
        if holder is None and (self._is_public or self._keys.are_asked_for):
            return UnauthorizedError("this server asks for an API key")
        return None
