"""The queue of calls: short functions of the base that other threads submit for the device's thread to call."""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from steerzo_edge.errors import BusyError, SteerzoError
from steerzo_edge.model.base import Base

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Call:
    call: Callable[[Base], Any]
    future: Future[Any]


class Calls:
    """A bounded queue of calls.

    Args:
        most: Calls that may wait.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._waiting: deque[_Call] = deque()

    @property
    def any(self) -> bool:
        """Whether calls wait."""
        return bool(self._waiting)

    def add(self, call: Callable[[Base], T]) -> Future[T]:
        """Puts a function into the queue. May be called from any thread.

        Raises:
            BusyError: If too many wait already.
        """
        future: Future[T] = Future()
        with self._lock:
            if len(self._waiting) >= self._most:
                raise BusyError("too many prompts are waiting")
            self._waiting.append(_Call(call, future))
        return future

    def run_all(self, base: Base) -> None:
        """Calls every waiting function, on the device's thread."""
        with self._lock:
            calls, self._waiting = self._waiting, deque()
        for call in calls:
            if call.future.set_running_or_notify_cancel():
                try:
                    call.future.set_result(call.call(base))
                except Exception as error:  # raised by the future's `result`, on the caller's thread
                    call.future.set_exception(error)

    def fail_all(self, error: SteerzoError) -> None:
        """Ends every waiting call with an error."""
        with self._lock:
            calls, self._waiting = self._waiting, deque()
        for call in calls:
            call.future.set_exception(error)
