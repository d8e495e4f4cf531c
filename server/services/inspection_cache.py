"""Checks of jobs that come in: not twice, one at a time, and never more than a share of the time.

Reading and tokenizing rows is Python's work, which a training step needs too: fifty clients that submit all at once
would have taken half of its speed. Those who submit wait a little instead.
"""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

T = TypeVar("T")

KEPT = 256
SHARE = 0.2
LONGEST_REST_S = 2.0


class InspectionCache(Generic[T]):
    """What was found, and when the next may be looked at.

    Args:
        clock: Seconds that never go back.
        rest: Sleeps.
    """

    def __init__(
        self, *, clock: Callable[[], float] = time.monotonic, rest: Callable[[float], None] = time.sleep
    ) -> None:
        self._clock = clock
        self._rest = rest
        self._turn = threading.Lock()
        self._found: dict[str, T] = {}
        self._free_at = 0.0

    def once(self, key: str, check: Callable[[], T]) -> T:
        """The result of a check, looked at now or before.

        Args:
            key: Of everything that the check depends on. Datasets never change under their id.
            check: Returns what there is to say, in little; what it raises is not kept.
        """
        with suppress(KeyError):
            return self._found[key]
        with self._turn:
            if key in self._found:  # looked at meanwhile; only who has the turn changes what is kept
                return self._found[key]
            self._rest(max(0.0, self._free_at - self._clock()))
            began = self._clock()
            try:
                found = check()
            finally:
                spent = self._clock() - began
                self._free_at = began + spent + min(spent * (1 / SHARE - 1), LONGEST_REST_S)
            self._found[key] = found
            if len(self._found) > KEPT:
                del self._found[next(iter(self._found))]
            return found
