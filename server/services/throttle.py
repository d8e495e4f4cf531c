"""Submissions take their time while a job trains: they wait, the job does not.

A request costs milliseconds of the same interpreter that the training step runs in. Without this, fifty clients
that submit without a break left a small job 0.4 of its speed; clients that wait a little send less by themselves.
"""

import time
from collections.abc import Callable

from steerzo_edge.errors import BusyError

PER_SECOND = 4.0
BURST = 20
LONGEST_WAIT_S = 30.0


class SubmitThrottle:
    """A row of places, so many a second; used on the event loop only.

    Args:
        clock: Seconds that never go back.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next = 0.0

    def wait_s(self) -> float:
        """Takes the next place; how long until it comes up.

        Raises:
            BusyError: If that would be longer than anybody should wait.
        """
        now = self._clock()
        place = max(self._next, now - BURST / PER_SECOND)
        if place - now > LONGEST_WAIT_S:
            raise BusyError(f"{round((place - now) * PER_SECOND)} submissions are waiting already")
        self._next = place + 1 / PER_SECOND
        return max(0.0, place - now)
