"""A device at work on a job, prompts for it beside the job, and the job's result."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from server.device.prompts import PromptLimits
from server.device.shares import Shares
from server.device.thread import Device
from server.errors import NotReadyError
from steerzo_edge.decoding.decoder import Request
from steerzo_edge.model.bank import no_preemption
from steerzo_edge.model.base import Base
from steerzo_edge.records import StepRecord
from steerzo_edge.run import Result, Run
from steerzo_edge.settings.profile import resolve
from tests.conftest import labelled_rows

DEADLINE_S = 60
PROFILE: dict[str, Any] = {
    "subset": {"kind": "lora", "rank": 2},
    "method": {"kind": "all-losses", "pool": 4, "epsilon": 0.5},
    "rule": {"kind": "sgd", "learning_rate": 0.5},
    "batch": {"examples": 4, "max_tokens": 64},
    "steps": 8,
    "evaluate": {"every": 3, "holdout": 0.25},
}


class Job:
    """A run, in time_slices of a step; a second one is never begun."""

    def __init__(self, directory: Path, **changes: Any) -> None:
        self.directory = directory
        self.profile = resolve(PROFILE, changes)
        self.run: Run | None = None
        self.result: Result | None = None
        self.steps = 0
        self.begun = False
        self.go = threading.Event()
        self.stepped = threading.Event()
        self.ended = threading.Event()

    def start(self, base: Base) -> None:
        self.run = Run(self.directory, base, self.profile, labelled_rows(), seed=1)

    def next_job(self) -> Iterator[None] | None:
        return None if self.begun or not self.go.is_set() else self.time_slices()

    def time_slices(self) -> Iterator[None]:
        assert self.run is not None
        self.begun = True
        for record in self.run.records():
            self.steps += isinstance(record, StepRecord)
            self.stepped.set()
            yield
        self.result = self.run.finish()
        self.run.close()
        self.ended.set()


class Listener:
    """Gives a prompt that is made when the device admits it."""

    def __init__(self, request: Callable[[Base], Request], on_text: Callable[[], None] = lambda: None) -> None:
        self.has_left = False
        self._request = request
        self._on_text = on_text

    def request(self, base: Base) -> Request:
        return self._request(base)

    def on_text(self, text: str) -> None:
        self._on_text()


class Alternating(Shares):
    """Training and prompts take turns, whatever the clock says."""

    def __init__(self) -> None:
        super().__init__(0.5)
        self._looks = 0

    @property
    def is_training_due(self) -> bool:
        self._looks += 1
        return self._looks % 2 == 0


class Comings:
    """How often others came into a forward of training."""

    def __init__(self, base: Base) -> None:
        self.count = 0
        self._preempted = base.preempted

    def __call__(self) -> AbstractContextManager[None]:
        self.count += 1
        return self._preempted()


@contextmanager
def beside(base: Base, job: Job, share: float | None) -> Iterator[tuple[Device, Comings]]:
    """A device at work on a job; without a share, it and prompts take turns."""
    device = Device(lambda: base, job, limits=PromptLimits(prefill_tokens=16), training_share=share or 0.0)
    if share is None:
        device._turns.shares = Alternating()
    comings = Comings(base)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base, "preempted", comings)
        device.start()
        try:
            yield device, comings
        finally:
            device.stop()
            device.join(DEADLINE_S)
    assert job.run is not None
    job.run.close()
    assert not base.bank.active
    assert not base.bank.is_batch_pass
    assert base.bank.preemption_hook is no_preemption


def given(request: Request) -> Callable[[Base], Request]:
    return lambda base: request


def wait_for_base(device: Device) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while True:
        with suppress(NotReadyError):
            _ = device.base
            return
        assert time.monotonic() < deadline
        time.sleep(0.002)


def alone(directory: Path, base: Base, **changes: Any) -> tuple[str, list[Any]]:
    """Hash of the adapter, and the losses, of a run that no prompt interrupted."""
    job = Job(directory, **changes)
    job.start(base)
    for _ in job.time_slices():
        pass
    return outcome(job)


def outcome(job: Job) -> tuple[str, list[Any]]:
    assert job.result is not None
    assert job.run is not None
    return job.result.sha256, [getattr(record, "loss", None) for record in job.run.recorded]
