"""Work that leaves the model alone, done beside the thread that owns it."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from typing import TypeVar

T = TypeVar("T")
# How long the device's thread waits before it looks whether somebody else wants it.
LOOK_S = 0.005


def beside(call: Callable[[], T]) -> Future[T]:
    """Has a function called on a thread of its own, which does not keep the process from ending.

    Args:
        call: May raise; that is the future's then.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # whoever asked is told
            future.set_exception(error)

    threading.Thread(target=run, name="beside", daemon=True).start()
    return future


def waited_for(future: Future[T]) -> Iterator[None]:
    """Quanta of waiting, each a moment long, until a future is done."""
    while not future.done():
        wait([future], timeout=LOOK_S)
        yield
