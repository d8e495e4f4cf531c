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
        bucket = self._buckets.get(who)
        if bucket is None:
            self._forget_the_full(now)
            bucket = self._buckets[who] = _Bucket(self._burst, now)
        bucket.tokens = min(self._burst, bucket.tokens + (now - bucket.at) * self._per_second)
        bucket.at = now
        if bucket.tokens < 1:
            raise TooOftenError(
                f"more than {self._per_second:g} requests a second",
                retry_after_s=(1 - bucket.tokens) / self._per_second,
            )
        bucket.tokens -= 1

    def _forget_the_full(self, now: float) -> None:
        """A bucket that has had time to fill is as good as none; what an attack fills is bounded."""
        if len(self._buckets) < MOST_BUCKETS:
            return
        filled_s = self._burst / self._per_second
        self._buckets = {who: bucket for who, bucket in self._buckets.items() if now - bucket.at < filled_s}
        while len(self._buckets) >= MOST_BUCKETS:
            del self._buckets[next(iter(self._buckets))]


def neighbourhood(address: str | None) -> str:
    """Who an address belongs to: itself, or for IPv6 the /64 that one customer has whole."""
    try:
        found = ipaddress.ip_address((address or "").partition("%")[0])
    except ValueError:
        return "unknown"
    return str(ipaddress.ip_network((found, 64), strict=False)) if found.version == 6 else str(found)
