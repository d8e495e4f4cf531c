"""Delays job submissions while a job trains, so that they do not slow the job down.

A submission takes milliseconds of the interpreter that the training step runs in. Without the delay, fifty clients
that submitted without a break reduced a small job to 0.4 of its speed.
"""

import time
from collections.abc import Callable

from steerzo_edge.errors import BusyError

PER_SECOND = 4.0
BURST = 20
LONGEST_WAIT_S = 30.0


class SubmitThrottle:
    """Hands out times for submissions, 4 a second after a burst of 20; used on the event loop only.

    Args:
        clock: A clock of monotonic seconds.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next = 0.0

    def wait_s(self) -> float:
        """Takes the next free time; returns the seconds until then.

        Raises:
            BusyError: If the submission would wait longer than 30 seconds.
        """
        now = self._clock()
        start = max(self._next, now - BURST / PER_SECOND)
        if start - now > LONGEST_WAIT_S:
            raise BusyError(f"{round((start - now) * PER_SECOND)} submissions are waiting already")
        self._next = start + 1 / PER_SECOND
        return max(0.0, start - now)
