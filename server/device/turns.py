"""Turns on the device: how long training and prompts have it, and preemption of a training forward.

A training forward holds a hundred times the tokens of a step of prompts; waiting for its end would delay prompts.
Before each linear layer of a forward the model calls `Turns.preempt`: if calls or prompts wait and training's share
allows it, they use the model first, and the forward then continues with the numbers it had. So a job's adapter is
the same bit for bit, whatever prompts were answered meanwhile.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from server.device.calls import Calls
from server.device.prompts import Prompts
from server.device.shares import Shares
from steerzo_edge.model.base import Base


@dataclass(slots=True)
class _Turn:
    """A turn of training that is not booked yet: when it began, and whether there were prompts then."""

    since: float
    among_prompts: bool


class Turns:
    """Turns of calls, prompts and training; used on the device's thread.

    Args:
        calls: Short functions of the base.
        prompts: Prompts that wait or are answered.
        shares: The account of training's time.
        is_stopping: Whether the device is to end.
    """

    def __init__(self, calls: Calls, prompts: Prompts, shares: Shares, is_stopping: Callable[[], bool]) -> None:
        self.shares = shares
        self._calls = calls
        self._prompts = prompts
        self._is_stopping = is_stopping
        self._turn: _Turn | None = None
        self.looked_at = time.monotonic()

    @property
    def time_slice_s(self) -> float:
        """Seconds since the thread last looked for work: how long the present time slice has taken."""
        return time.monotonic() - self.looked_at

    def look(self) -> float:
        """Begins a time slice; returns the monotonic time."""
        self.looked_at = time.monotonic()
        return self.looked_at

    def answer(self) -> None:
        """One time slice of prompts: a step for all of them."""
        began = self.look()
        self._prompts.turn()
        self.shares.prompted(time.monotonic() - began)

    @contextmanager
    def training(self) -> Iterator[None]:
        """Books what happens inside as training, except for time in which it is preempted."""
        self._begin()
        try:
            yield
        finally:
            self._end()

    def preempt(self, base: Base) -> None:
        """Before a layer of a forward, lets other work use the model.

        A training forward lets waiting calls and prompts; a forward that scores texts lets prompts. Else nothing is
        done.
        """
        if self._is_stopping():
            return
        if self._turn is None:
            self._prompts.step_meanwhile(base)
            return
        waiting = self._calls.any or self._prompts.any
        if waiting:
            base.catch_up()
        # Booking at every layer keeps `time_slice_s` short, and the savings up to date.
        self._end()
        try:
            if waiting and (self._calls.any or not self.shares.is_training_due):
                self._run_waiting(base)
        finally:
            self._begin()

    def _run_waiting(self, base: Base) -> None:
        """Runs calls and prompts until training is due again."""
        with base.preempted():
            self._calls.run_all(base)
            while self._prompts.any and not self._is_stopping():
                self.answer()
                self._calls.run_all(base)
                if self.shares.is_training_due:
                    break

    def _begin(self) -> None:
        self._turn = _Turn(self.look(), self._prompts.any)

    def _end(self) -> None:
        assert self._turn is not None
        now = self.look()
        self.shares.trained(now - self._turn.since, among_prompts=self._turn.among_prompts)
        self._turn = None
