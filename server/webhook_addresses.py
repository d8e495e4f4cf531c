"""Decides which addresses a job may have its end reported to.

Without this check, anyone who may post a job could have the server send requests into its own network.
"""

from collections.abc import Iterable
from urllib.parse import unquote, urlsplit

import httpx

from steerzo_edge.errors import InputError

_PORTS = {"http": 80, "https": 443}


def check_webhook(url: str | None, prefixes: Iterable[str]) -> None:
    """Refuses a job's own webhook unless the operator allows its address.

    Args:
        url: Of the job; None if it has none.
        prefixes: Beginnings of the addresses that are allowed.

    Raises:
        InputError: If it is not allowed.
    """
    if url is not None and not any(is_below(url, prefix) for prefix in prefixes):
        raise InputError(
            "webhook: this server does not allow this address for a job's webhook",
            hint="The operator lists the beginnings of allowed addresses in STEERZO_WEBHOOK_PREFIXES.",
        )


def is_address(url: str) -> bool:
    """Whether an address can be sent to: http or https, with a host, and well formed."""
    try:
        parts, known = urlsplit(url), httpx.URL(url)
        is_whole = bool(parts.hostname and known.host) and parts.port != 0
    except (ValueError, httpx.InvalidURL):
        return False
    return is_whole and parts.scheme in _PORTS and url.isprintable() and " " not in url


def is_below(url: str, prefix: str) -> bool:
    """Whether an address begins with a prefix: same scheme, host and port, and a path at or below the prefix's."""
    try:
        asked, allowed = urlsplit(url), urlsplit(prefix)
        same = asked.scheme == allowed.scheme in _PORTS and asked.hostname == allowed.hostname is not None
        ports = [parts.port or _PORTS[parts.scheme] for parts in (asked, allowed)] if same else [0, 1]
    except ValueError:
        return False
    strange = "@" in asked.netloc or "\\" in url or not url.isascii() or not url.isprintable() or " " in url
    # A receiver might read "..", encoded once or twice, as the directory above; also with a parameter ("..;x"), or
    # between backslashes.
    decoded = unquote(unquote(asked.path))
    strange = strange or "\\" in decoded or ";" in decoded
    climbs = any(segment == "." or segment.startswith("..") for segment in decoded.split("/"))
    if ports[0] != ports[1] or strange or climbs:
        return False
    path = allowed.path.rstrip("/")
    return asked.path == path or asked.path.startswith(f"{path}/") or (not path and not asked.path)
