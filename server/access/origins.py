"""Rejects requests that a web page of another site makes a browser send.

Such a page cannot read an answer, for no CORS header is ever sent, but it can send requests. Two checks stop it:

- DNS rebinding points the page's own name at this server's address; so the Host header must name this server.
- Forms and simple requests carry the page's `Origin`; so requests that change something must have this origin.
"""

import ipaddress
from collections.abc import Iterable
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from server.access.refusal import refuse
from server.errors import ForeignOriginError, UnknownHostError

LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
OWN_SITES: Final = frozenset({"same-origin", "none"})


class OriginCheck:
    """Checks the Host and Origin headers.

    Args:
        app: The wrapped app.
        host: The bound address. If it stands for all addresses (0.0.0.0), the Host header may hold any IP address:
            rebinding needs a domain name that the attacker owns.
        allowed: Further names that the Host header may hold.
    """

    def __init__(self, app: ASGIApp, *, host: str, allowed: Iterable[str]) -> None:
        self._app = app
        self._names = LOOPBACK | {_plain(name) for name in (host, *allowed)}
        self._any_address = _address(host) is not None and ipaddress.ip_address(host).is_unspecified

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        error = self._objection(scope) if scope["type"] == "http" else None
        if error is not None:
            await refuse(error, scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _objection(self, scope: Scope) -> UnknownHostError | ForeignOriginError | None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._is_ours(name_of(hosts[0])):
            return UnknownHostError("the Host header does not name this server")
        if scope["method"] in SAFE_METHODS:
            return None
        site = headers.get("sec-fetch-site", "none")
        origins = {origin.lower().partition("://")[2] for origin in headers.getlist("origin")}
        if site not in OWN_SITES or not origins <= {hosts[0].strip().lower()}:
            return ForeignOriginError("a web page of another origin may not change anything here")
        return None

    def _is_ours(self, name: str) -> bool:
        return name in self._names or (self._any_address and _address(name) is not None)


def name_of(host: str) -> str:
    """The name in a Host header, in lower case, without port, brackets and trailing dot; "" if malformed."""
    host = host.strip()
    if host.startswith("["):
        name, closed, port = host[1:].partition("]")
        return _plain(name) if closed and (not port or _is_port(port)) else ""
    name, colon, port = host.partition(":")
    return _plain(name) if not colon or _is_port(colon + port) else ""


def _plain(name: str) -> str:
    return name.lower().removesuffix(".")


def _is_port(text: str) -> bool:
    return text.startswith(":") and text[1:].isascii() and text[1:].isdigit()


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None
