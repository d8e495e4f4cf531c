"""Work that does not use the model, done on a background thread while the device's thread continues."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from typing import TypeVar

T = TypeVar("T")
# Longest time slice of waiting: after it, the device's thread looks for other work.
LOOK_S = 0.005


def in_background(call: Callable[[], T]) -> Future[T]:
    """Calls a function on a daemon thread of its own, which does not keep the process alive.

    Args:
        call: The function; what it raises becomes the future's exception.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # raised by the future's `result`
            future.set_exception(error)

    threading.Thread(target=run, name="background", daemon=True).start()
    return future


def waited_for(future: Future[T]) -> Iterator[None]:
    """Time slices of waiting, each 5 ms at most, until a future is done."""
    while not future.done():
        wait([future], timeout=LOOK_S)
        yield
