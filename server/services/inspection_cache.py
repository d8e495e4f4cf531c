"""Caches inspections of jobs, and makes one at a time with pauses in between.

Reading and tokenizing rows holds Python's interpreter lock, which a training step needs too: fifty clients that
submitted at once took half of its speed. With the pauses, inspections take a fifth of the time at most, and clients
wait a little longer.
"""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

T = TypeVar("T")

KEPT = 256
SHARE = 0.2
LONGEST_PAUSE_S = 2.0


class InspectionCache(Generic[T]):
    """The cached results.

    Args:
        clock: A clock of monotonic seconds.
        pause: Sleeps for a number of seconds.
    """

    def __init__(
        self, *, clock: Callable[[], float] = time.monotonic, pause: Callable[[float], None] = time.sleep
    ) -> None:
        self._clock = clock
        self._pause = pause
        self._lock = threading.Lock()
        self._found: dict[str, T] = {}
        self._free_at = 0.0

    def once(self, key: str, check: Callable[[], T]) -> T:
        """The result of a check, from the cache if it was made before.

        Args:
            key: Everything that the check depends on. A dataset never changes under its id.
            check: Makes the result, which should be small; an exception is not cached.
        """
        with suppress(KeyError):
            return self._found[key]
        with self._lock:
            # Another thread may have made it meanwhile; only the holder of the lock changes the cache.
            if key in self._found:
                return self._found[key]
            self._pause(max(0.0, self._free_at - self._clock()))
            began = self._clock()
            try:
                found = check()
            finally:
                spent = self._clock() - began
                self._free_at = began + spent + min(spent * (1 / SHARE - 1), LONGEST_PAUSE_S)
            self._found[key] = found
            if len(self._found) > KEPT:
                del self._found[next(iter(self._found))]
            return found
