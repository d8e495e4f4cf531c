"""The one thread that owns the model, and shares it out in small quanta.

    prompts     waiting calls of a function of the base: one is answered, then
    training    one quantum (a step of the running job; before the first its search for a rate, which takes as long
                as ten), then the next prompt

So a prompt waits at most one quantum for its turn to come up, and training goes on between any two prompts.
The event loop only puts work here and awaits futures; nobody else touches the model.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from server.problems import NotReadyError
from steerzo_edge.errors import BusyError
from steerzo_edge.model.base import Base

log = logging.getLogger(__name__)
T = TypeVar("T")
_END = object()


class Training(Protocol):
    """Where the device finds work between prompts."""

    def start(self, base: Base) -> None:
        """Called once, on the device's thread, when the base is loaded."""
        ...

    def next_job(self) -> Iterator[None] | None:
        """The next job as an iterator of quanta, or None if nothing waits. Must not raise."""
        ...


@dataclass(frozen=True, slots=True)
class _Prompt:
    call: Callable[[Base], Any]
    future: Future[Any]


class Device:
    """The device's thread and its queue.

    Args:
        load: Loads the base; called on the thread.
        training: Where jobs come from.
        max_waiting: Prompts that may wait.
        failed: Called, on the thread, if the base cannot be loaded.
    """

    def __init__(
        self,
        load: Callable[[], Base],
        training: Training,
        *,
        max_waiting: int,
        failed: Callable[[Exception], None] = lambda error: None,
    ) -> None:
        self._load = load
        self._training = training
        self._max_waiting = max_waiting
        self._failed = failed
        self._base: Base | None = None
        self._prompts: deque[_Prompt] = deque()
        self._wake = threading.Condition()
        self._stopping = False
        self._turned = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="device", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ends after the present quantum; waiting prompts are answered with an error. Returns at once."""
        self._stopping = True  # no lock: a signal handler may have interrupted its holder

    def join(self, timeout_s: float) -> None:
        """Waits for the end."""
        self._thread.join(timeout_s)

    @property
    def is_alive(self) -> bool:
        """Whether the thread is still at work."""
        return self._thread.is_alive()

    @property
    def quantum_s(self) -> float:
        """Seconds since the thread last looked for work: how long the present quantum has taken."""
        return time.monotonic() - self._turned

    @property
    def waiting(self) -> int:
        """Prompts whose turn has not come."""
        return len(self._prompts)

    def wake(self) -> None:
        """Tells the thread that a job may be waiting."""
        with self._wake:
            self._wake.notify()

    @property
    def base(self) -> Base:
        """The loaded base; on other threads, look at its name and its config only.

        Raises:
            NotReadyError: If it is still loading.
        """
        if self._base is None:
            raise NotReadyError("the base model is still loading")
        return self._base

    def submit(self, call: Callable[[Base], T]) -> Future[T]:
        """Has a function called on the device's thread, when its turn comes.

        Raises:
            NotReadyError: If the base is still loading.
            BusyError: If too many wait already, or the server is stopping.
        """
        _ = self.base
        future: Future[T] = Future()
        with self._wake:
            if self._stopping or len(self._prompts) >= self._max_waiting:
                raise BusyError("the server is stopping" if self._stopping else "too many prompts are waiting")
            self._prompts.append(_Prompt(call, future))
            self._wake.notify()
        return future

    def _run(self) -> None:
        try:
            base = self._load()
        except Exception as error:  # the thread's edge: the server is told and shuts down
            self._failed(error)
            return
        self._training.start(base)
        self._base = base
        job: Iterator[None] | None = None
        while not self._stopping:
            self._turned = time.monotonic()
            prompted = self._answer_one(base)
            job = job or self._training.next_job()
            if job is not None:
                if next(job, _END) is _END:
                    job = None
            elif not prompted:
                self._wait()
        self._give_up_waiting()

    def _answer_one(self, base: Base) -> bool:
        with self._wake:
            prompt = self._prompts.popleft() if self._prompts else None
        if prompt is None:
            return False
        if prompt.future.set_running_or_notify_cancel():
            try:
                prompt.future.set_result(prompt.call(base))
            except Exception as error:  # belongs to whoever asked
                prompt.future.set_exception(error)
        return True

    def _wait(self) -> None:
        with self._wake:
            if not self._prompts and not self._stopping:
                self._wake.wait(timeout=0.5)

    def _give_up_waiting(self) -> None:
        with self._wake:
            while self._prompts:
                self._prompts.popleft().future.set_exception(BusyError("the server is stopping"))
