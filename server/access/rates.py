"""How often somebody may ask: a bucket of tokens for each, filled at a steady rate."""

import ipaddress
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from server.problems import TooOftenError

MOST_BUCKETS: Final = 10_000


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


class Rates:
    """The buckets, one for each key or address.

    Args:
        per_second: Tokens that come in a second; a request takes one.
        burst: Tokens that a full bucket holds.
        now: A clock in seconds that never goes back.
    """

    def __init__(self, per_second: float, burst: int, *, now: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._burst = burst
        self._now = now
        self._buckets: dict[str, _Bucket] = {}

    def take(self, who: str) -> None:
        """Takes a token from somebody's bucket.

        Raises:
            TooOftenError: If it is empty, with the seconds until it is not.
        """
        now = self._now()
        # Back in as the last: the first of all is the one that was used longest ago.
        bucket = self._buckets.pop(who, None) or _Bucket(self._burst, now)
        self._buckets[who] = bucket
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
    """Who an address belongs to: itself, or for IPv6 the /64 that one customer has whole."""
    try:
        found = ipaddress.ip_address((address or "").partition("%")[0])
    except ValueError:
        return "unknown"
    return str(ipaddress.ip_network((found, 64), strict=False)) if found.version == 6 else str(found)
