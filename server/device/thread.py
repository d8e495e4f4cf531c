"""The one thread that owns the model, and divides its time into small time slices.

    calls       short functions of the base: all that wait
    prompts     one step for all prompts that are answered: a token each, and a chunk of a prompt still to be read;
                and a forward of texts that are scored
    training    the running job, up to the end of a step; while there are prompts, only when its share allows it

Calls and prompts also preempt a training forward between its layers (`turns.py`). The event loop only submits work
here and awaits futures; no other thread uses the model.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Protocol, TypeVar

from server.device.calls import Calls
from server.device.prompts import PromptLimits, PromptListener, Prompts
from server.device.scorings import ScoringListener
from server.device.shares import Shares
from server.device.turns import Turns
from server.errors import NotReadyError
from steerzo_edge.decoding.answer import Generation
from steerzo_edge.decoding.scoring import Scored
from steerzo_edge.errors import BusyError
from steerzo_edge.model.bank import no_preemption
from steerzo_edge.model.base import Base

log = logging.getLogger(__name__)
T = TypeVar("T")
_END = object()
# While prompts keep the device busy, an empty queue of jobs is read again after this long.
LOOK_S = 0.5


class Training(Protocol):
    """The source of training work."""

    def start(self, base: Base) -> None:
        """Called once, on the device's thread, when the base is loaded."""
        ...

    def next_job(self) -> Iterator[None] | None:
        """The next job as an iterator of time slices; None if no job waits. Must not raise."""
        ...


class Device:
    """The device's thread and its queues.

    Args:
        load: Loads the base; called on the thread.
        training: The source of jobs.
        limits: Bounds on prompts.
        training_share: Least share of the time that training has while there are prompts.
        failed: Called, on the thread, if the base cannot be loaded or the thread ends with an error.
    """

    def __init__(
        self,
        load: Callable[[], Base],
        training: Training,
        *,
        limits: PromptLimits,
        training_share: float,
        failed: Callable[[Exception], None] = lambda error: None,
    ) -> None:
        self._load = load
        self._training = training
        self._failed = failed
        self._calls = Calls(limits.waiting)
        self._prompts = Prompts(limits)
        self._turns = Turns(self._calls, self._prompts, Shares(training_share), lambda: self._stopping)
        self._base: Base | None = None
        self._job: Iterator[None] | None = None
        self._next_read_at = 0.0
        self._wake = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="device", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread after the present step; waiting prompts end with an error. Returns at once."""
        self._stopping = True  # no lock: a signal handler may have interrupted its holder

    def join(self, timeout_s: float) -> None:
        """Waits until the thread has ended, `timeout_s` at most."""
        self._thread.join(timeout_s)

    @property
    def is_alive(self) -> bool:
        """Whether the thread is running."""
        return self._thread.is_alive()

    @property
    def time_slice_s(self) -> float:
        """Seconds that the present time slice has taken so far."""
        return self._turns.time_slice_s

    @property
    def is_training(self) -> bool:
        """Whether a job has the device, or shares it with prompts."""
        return self._job is not None

    @property
    def seconds(self) -> dict[str, float]:
        """How long "training" and "prompts" have had the device in all."""
        return dict(self._turns.shares.seconds)

    @property
    def waiting(self) -> int:
        """Prompts that wait to be answered."""
        return self._prompts.waiting

    @property
    def answering(self) -> int:
        """Prompts that are being answered."""
        return self._prompts.active

    def wake(self) -> None:
        """Tells the thread that a job may be waiting."""
        with self._wake:
            self._next_read_at = 0.0
            self._wake.notify()

    @property
    def base(self) -> Base:
        """The loaded base; other threads may only read its name, its configuration and the sizes of its layers.

        Raises:
            NotReadyError: If it is still loading.
        """
        if self._base is None:
            raise NotReadyError("the base model is still loading")
        return self._base

    def submit(self, call: Callable[[Base], T]) -> Future[T]:
        """Has a short function called on the device's thread, before its next time slice.

        Raises:
            NotReadyError: If the base is still loading.
            BusyError: If too many wait already, or the server is stopping.
        """
        return self._submitted(lambda: self._calls.add(call))

    def ask(self, listener: PromptListener) -> Future[Generation]:
        """Has a prompt answered, in one batch with the other prompts.

        Args:
            listener: Gives the prompt and receives the answer.

        Raises:
            NotReadyError: If the base is still loading.
            BusyError: If too many wait already, or the server is stopping.
        """
        return self._submitted(lambda: self._prompts.ask(listener))

    def ask_scores(self, listener: ScoringListener) -> Future[list[Scored]]:
        """Has texts scored, some in each time slice; takes milliseconds for many texts.

        Args:
            listener: Gives the texts.

        Raises:
            NotReadyError: If the base is still loading.
            BusyError: If too many wait already, or the server is stopping.
        """
        scorings = self._prompts.scorings
        parts = scorings.parts(listener.texts)
        return self._submitted(lambda: scorings.ask(listener, parts))

    def _submitted(self, enqueue: Callable[[], Future[T]]) -> Future[T]:
        _ = self.base
        with self._wake:
            if self._stopping:
                raise BusyError("the server is stopping")
            future = enqueue()
            self._wake.notify()
        return future

    def _run(self) -> None:
        try:
            base = self._load()
            self._training.start(base)
        except Exception as error:  # `failed` makes the server shut down
            self._failed(error)
            return
        self._prompts.open(base)
        base.bank.preemption_hook = lambda: self._turns.preempt(base)
        self._base = base
        try:
            while not self._stopping:
                self._turns.look()
                self._calls.run_all(base)
                if not self._time_slice():
                    self._wait()
        except Exception as error:  # not from a prompt or a job; the server cannot work without this thread
            log.critical("the device's thread has ended", exc_info=error)
            self._failed(error)
        finally:
            self._stopping = True
            base.bank.preemption_hook = no_preemption
            self._fail_waiting()

    def _time_slice(self) -> bool:
        """Runs prompts, training, or both for a time slice; returns whether there was any work."""
        if not self._prompts.any:
            return self._train()
        self._turns.answer()
        if self._prompts.any and self._turns.shares.is_training_due:
            self._train()
        return True

    def _train(self) -> bool:
        """Runs the present job, or the next one, up to the end of a step; returns whether there was a job."""
        with self._turns.training():
            looked_at = self._turns.looked_at
            if self._job is None and not (self._prompts.any and looked_at < self._next_read_at):
                self._next_read_at = looked_at + LOOK_S
                self._job = self._training.next_job()
            if self._job is None:
                self._turns.shares.nothing_to_train()
                return False
            if next(self._job, _END) is _END:
                self._job = None
                self._next_read_at = 0.0
        return True

    def _wait(self) -> None:
        with self._wake:
            if not self._calls.any and not self._prompts.any and not self._stopping:
                self._wake.wait(timeout=0.5)

    def _fail_waiting(self) -> None:
        error = BusyError("the server is stopping")
        with self._wake:
            self._calls.fail_all(error)
            self._prompts.give_up(error)
