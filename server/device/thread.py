"""The one thread that owns the model, and shares it out in small quanta.

    calls       short functions of the base: all that wait
    prompts     one step for all that are answered: a token each, and a chunk of a prompt that is still to be read
    training    the running job, from one linear layer of its forward to the next: whenever there is no prompt, and
                among prompts when its share has earned it

A forward of training holds a hundred times the tokens of a prompt's step, so prompts do not wait for its end: they
come in between its layers, and it goes on with the numbers it had. A job's adapter is the same bit for bit, whoever
was answered meanwhile. The event loop only puts work here and awaits futures; nobody else touches the model.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from server.device.prompts import Limits, PromptListener, Prompts
from server.device.shares import Shares
from server.problems import NotReadyError
from steerzo_edge.decoding.answer import Generation
from steerzo_edge.errors import BusyError
from steerzo_edge.model.bank import no_preemption
from steerzo_edge.model.base import Base

log = logging.getLogger(__name__)
T = TypeVar("T")
_END = object()
# How often a queue that was empty is looked at while prompts keep the device busy.
LOOK_S = 0.5


class Training(Protocol):
    """Where the device finds work between prompts."""

    def start(self, base: Base) -> None:
        """Called once, on the device's thread, when the base is loaded."""
        ...

    def next_job(self) -> Iterator[None] | None:
        """The next job as an iterator of quanta, or None if nothing waits. Must not raise."""
        ...


@dataclass(frozen=True, slots=True)
class _Call:
    call: Callable[[Base], Any]
    future: Future[Any]


@dataclass(slots=True)
class _Turn:
    """What training has had and is not yet on its account: since when, and whether there were prompts then."""

    since: float
    among_prompts: bool


class Device:
    """The device's thread and its queue.

    Args:
        load: Loads the base; called on the thread.
        training: Where jobs come from.
        limits: What prompts may take.
        training_share: Least share of the time that training has while there are prompts.
        failed: Called, on the thread, if the base cannot be loaded.
    """

    def __init__(
        self,
        load: Callable[[], Base],
        training: Training,
        *,
        limits: Limits,
        training_share: float,
        failed: Callable[[Exception], None] = lambda error: None,
    ) -> None:
        self._load = load
        self._training = training
        self._most_calls = limits.waiting
        self._prompts = Prompts(limits)
        self._shares = Shares(training_share)
        self._failed = failed
        self._base: Base | None = None
        self._calls: deque[_Call] = deque()
        self._job: Iterator[None] | None = None
        self._look_at = 0.0
        self._wake = threading.Condition()
        self._stopping = False
        self._turned = time.monotonic()
        self._turn: _Turn | None = None
        self._thread = threading.Thread(target=self._run, name="device", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ends after the present step; prompts are answered with an error. Returns at once."""
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
    def is_training(self) -> bool:
        """Whether a job has the device, or shares it with prompts."""
        return self._job is not None

    @property
    def seconds(self) -> dict[str, float]:
        """What "training" and "prompts" have had of the device, in all."""
        return dict(self._shares.seconds)

    @property
    def waiting(self) -> int:
        """Prompts whose turn has not come."""
        return self._prompts.waiting

    @property
    def answering(self) -> int:
        """Prompts that are being answered."""
        return self._prompts.active

    def wake(self) -> None:
        """Tells the thread that a job may be waiting."""
        with self._wake:
            self._look_at = 0.0
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
        """Has a short function called on the device's thread, before its next quantum.

        Raises:
            NotReadyError: If the base is still loading.
            BusyError: If too many wait already, or the server is stopping.
        """
        _ = self.base
        future: Future[T] = Future()
        with self._wake:
            self._refuse_if_stopping()
            if len(self._calls) >= self._most_calls:
                raise BusyError("too many prompts are waiting")
            self._calls.append(_Call(call, future))
            self._wake.notify()
        return future

    def ask(self, asker: PromptListener) -> Future[Generation]:
        """Has a prompt answered, together with the others that are there.

        Args:
            asker: Told about the answer.

        Raises:
            NotReadyError: If the base is still loading.
            BusyError: If too many wait already, or the server is stopping.
        """
        _ = self.base
        with self._wake:
            self._refuse_if_stopping()
            future = self._prompts.ask(asker)
            self._wake.notify()
        return future

    def _refuse_if_stopping(self) -> None:
        if self._stopping:
            raise BusyError("the server is stopping")

    def _run(self) -> None:
        try:
            base = self._load()
            self._training.start(base)
        except Exception as error:  # the thread's edge: the server is told and shuts down
            self._failed(error)
            return
        self._prompts.open(base)
        base.bank.preemption_hook = self._come_in
        self._base = base
        try:
            while not self._stopping:
                self._turned = time.monotonic()
                self._call_all(base)
                if not self._quantum():
                    self._wait()
        except Exception as error:  # nobody's own: without this thread the server can do nothing
            log.critical("the device's thread has ended", exc_info=error)
            self._failed(error)
        finally:
            self._stopping = True
            base.bank.preemption_hook = no_preemption
            self._give_up_waiting()

    def _quantum(self) -> bool:
        """Gives the device to whoever's turn it is; whether there was anybody."""
        if not self._prompts.any:
            return self._train()
        self._answer()
        if self._prompts.any and self._shares.is_training_due:
            self._train()
        return True

    def _answer(self) -> None:
        """One step for all prompts."""
        began = self._turned = time.monotonic()
        self._prompts.turn()
        self._shares.prompted(time.monotonic() - began)

    def _train(self) -> bool:
        """The running job, or the next, up to the end of a step; whether there was one."""
        self._begin_turn()
        try:
            if self._job is None and not (self._prompts.any and self._turned < self._look_at):
                self._look_at = self._turned + LOOK_S
                self._job = self._training.next_job()
            if self._job is None:
                self._shares.nothing_to_train()
                return False
            if next(self._job, _END) is _END:
                self._job = None
                self._look_at = 0.0
        finally:
            self._end_turn()
        return True

    def _come_in(self) -> None:
        """In the middle of a forward: if it is training's, all that comes first."""
        base = self._base
        if self._turn is None or self._stopping or base is None:
            return
        waiting = bool(self._calls) or self._prompts.any
        if waiting and not base.catch_up():
            return
        self._end_turn()
        if waiting and (self._calls or not self._shares.is_training_due):
            try:
                self._lend(base)
            finally:
                self._begin_turn()
        else:
            self._begin_turn()

    def _lend(self, base: Base) -> None:
        """Calls and prompts have the model until training's turn has come again."""
        with base.preempted():
            self._call_all(base)
            while self._prompts.any and not self._stopping:
                self._answer()
                self._call_all(base)
                if self._shares.is_training_due:
                    break

    def _begin_turn(self) -> None:
        self._turned = time.monotonic()
        self._turn = _Turn(self._turned, self._prompts.any)

    def _end_turn(self) -> None:
        assert self._turn is not None
        self._turned = time.monotonic()
        self._shares.trained(self._turned - self._turn.since, among_prompts=self._turn.among_prompts)
        self._turn = None

    def _call_all(self, base: Base) -> None:
        with self._wake:
            calls, self._calls = self._calls, deque()
        for call in calls:
            if call.future.set_running_or_notify_cancel():
                try:
                    call.future.set_result(call.call(base))
                except Exception as error:  # belongs to whoever asked
                    call.future.set_exception(error)

    def _wait(self) -> None:
        with self._wake:
            if not self._calls and not self._prompts.any and not self._stopping:
                self._wake.wait(timeout=0.5)

    def _give_up_waiting(self) -> None:
        error = BusyError("the server is stopping")
        with self._wake:
            for call in self._calls:
                call.future.set_exception(error)
            self._calls.clear()
            self._prompts.give_up(error)
