"""A rate limit: a token bucket for each API key or client address."""

import ipaddress
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from server.errors import TooOftenError

MOST_BUCKETS: Final = 10_000


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


class RateLimits:
    """The buckets, one for each key or address; the 10,000 most recently used are kept.

    Args:
        per_second: Tokens added each second; a request takes one.
        burst: Tokens that a full bucket holds.
        now: A clock of monotonic seconds.
    """

    def __init__(self, per_second: float, burst: int, *, now: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._burst = burst
        self._now = now
        self._buckets: dict[str, _Bucket] = {}

    def take(self, client: str) -> None:
        """Takes a token from a client's bucket.

        Args:
            client: The key's name or the address.

        Raises:
            TooOftenError: If the bucket is empty, with the seconds until the next token.
        """
        now = self._now()
        # Inserted again at the end, so that the first bucket is the least recently used.
        bucket = self._buckets.pop(client, None) or _Bucket(self._burst, now)
        self._buckets[client] = bucket
        if len(self._buckets) > MOST_BUCKETS:
            del self._buckets[next(iter(self._buckets))]
        bucket.tokens = min(self._burst, bucket.tokens + (now - bucket.at) * self._per_second)
        bucket.at = now
        if bucket.tokens < 1:
            raise TooOftenError(
                f"more than {self._per_second:g} requests a second",
                retry_after_s=(1 - bucket.tokens) / self._per_second,
            )
        bucket.tokens -= 1


def neighbourhood(address: str | None) -> str:
    """The group of addresses that is limited together: the address itself, or the /64 network of an IPv6 address.

    A provider usually gives one customer a whole /64.
    """
    try:
        found = ipaddress.ip_address((address or "").partition("%")[0])
    except ValueError:
        return "unknown"
    return str(ipaddress.ip_network((found, 64), strict=False)) if found.version == 6 else str(found)
