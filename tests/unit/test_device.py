"""One device for training and prompts: which of them runs when, and that no result depends on it."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from server.device.prompts import PromptLimits
from server.device.shares import Shares
from server.device.thread import Device
from server.errors import NotReadyError
from steerzo_edge.data.batches import collate
from steerzo_edge.decoding.decoder import Request
from steerzo_edge.errors import BusyError
from steerzo_edge.model.bank import no_preemption
from steerzo_edge.model.base import Base
from steerzo_edge.model.patches import LoraPatch, Patches
from steerzo_edge.objectives.likelihood import losses
from steerzo_edge.records import StepRecord
from steerzo_edge.run import Result, Run
from steerzo_edge.run_data import tokenized
from steerzo_edge.settings.profile import resolve
from tests.conftest import Loader, labelled_rows, phrase_rows
from tests.unit.test_decoding import mixed, together

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


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"subset.last_layers": 1},
        {"batch.probes_per_forward": 1},
        {"objective": {"kind": "accuracy"}},
    ],
    ids=["all layers", "frozen prefix", "one probe a forward", "accuracy"],
)
def test_a_job_and_32_prompts_do_not_see_each_other(tiny: Loader, tmp_path: Path, changes: dict[str, Any]) -> None:
    """Token for token, and bit for bit: different adapters, lengths and sampling come in between its layers."""
    base = tiny("none")
    expected = alone(tmp_path / "alone", base, **changes)
    requests = mixed(base, 32)
    answers = [together(base, [request], prefill_tokens=16)[0][1] for request in requests]
    job = Job(tmp_path / "beside", **changes)
    with beside(base, job, share=None) as (device, comings):
        wait_for_base(device)
        futures = [device.ask(Listener(given(request))) for request in requests]
        job.go.set()
        device.wake()
        found = [future.result(DEADLINE_S) for future in futures]
        assert job.ended.wait(DEADLINE_S)
    assert found == answers
    assert outcome(job) == expected
    assert comings.count > 20


def test_a_prompt_does_not_wait_for_the_end_of_a_step(tiny: Loader, tmp_path: Path) -> None:
    """Without a share for training, all of an answer comes in between two layers of one forward."""
    base = tiny("none")
    job = Job(tmp_path, steps=100_000, **{"evaluate.every": 100_000})
    request = mixed(base, 2)[1]
    seen: list[int] = []
    with beside(base, job, share=0.0) as (device, comings):
        wait_for_base(device)
        job.go.set()
        device.wake()
        assert job.stepped.wait(DEADLINE_S)
        for _ in range(20):
            seen.clear()
            device.ask(Listener(lambda base: request, lambda: seen.append(job.steps))).result(DEADLINE_S)
            assert len(seen) > 1
            assert seen[0] == seen[-1]
            job.stepped.clear()
            assert job.stepped.wait(DEADLINE_S)
    # Now and then a prompt finds the device between two steps.
    assert comings.count > 10


def values(patches: Patches) -> Tensor:
    return torch.cat([patch.b.flatten() for patch in patches.values() if isinstance(patch, LoraPatch)])


def test_latest_is_never_a_probe(tiny: Loader, tmp_path: Path) -> None:
    """What is looked up in the middle of a forward is the parameters of the last finished step, nothing else."""
    base = tiny("none")
    job = Job(tmp_path / "beside")
    request = mixed(base, 1)[0]
    kept: list[tuple[int, Tensor]] = []

    def looked_up(base: Base) -> Request:
        assert job.run is not None
        kept.append((job.run.progress.step, values(job.run.patches())))
        return Request(request.tokens, request.sampling, job.run.patches())

    with beside(base, job, share=None) as (device, comings):
        wait_for_base(device)
        job.go.set()
        device.wake()
        while not job.ended.is_set():
            device.ask(Listener(looked_up)).result(DEADLINE_S)
    assert comings.count > 5
    run = Run(tmp_path / "again", base, job.profile, labelled_rows(), seed=1)
    # A verdict of the watcher takes parameters back: then there are two versions after the same number of steps.
    versions = {0: [values(run.patches())]}
    for _ in run.records():
        versions.setdefault(run.progress.step, []).append(values(run.patches()))
    run.close()
    assert len({step for step, _ in kept}) > 3
    for step, found in kept[:-1]:  # the last may have been asked after the best version was taken back
        assert any(torch.equal(found, version) for version in versions[step])


def test_calls_come_in_too_and_what_they_break_is_theirs(tiny: Loader, tmp_path: Path) -> None:
    base = tiny("none")
    expected = alone(tmp_path / "alone", base)
    job = Job(tmp_path / "beside")

    def look(base: Base) -> tuple[bool, bool]:
        return torch.is_inference_mode_enabled(), base.bank.is_batch_pass

    def broken(base: Base) -> None:
        with base.bank.route({"model.layers.0.mlp.up_proj": LoraPatch(torch.ones(1), torch.ones(1), 1.0)}):
            raise ValueError("broken")

    with beside(base, job, share=None) as (device, comings):
        wait_for_base(device)
        job.go.set()
        device.wake()
        while not job.ended.is_set():
            assert device.submit(look).result(DEADLINE_S) == (False, False)
            with pytest.raises(ValueError, match="broken"):
                device.submit(broken).result(DEADLINE_S)
    assert comings.count > 5
    assert outcome(job) == expected


def test_a_forward_goes_on_where_it_lent_the_model(tiny: Loader) -> None:
    """Before every linear layer and every block of the head, with prompts that attend and route differently."""
    base = tiny("none")
    data = tokenized(base.tokenizer, base.context_length, resolve(PROFILE), phrase_rows(), None, 0)
    batch = collate(data.train, [0, 1, 2], base.device)
    requests = mixed(base, 3)
    comings = 0

    def come_in() -> None:
        nonlocal comings
        comings += 1
        base.bank.preemption_hook = no_preemption
        with base.preempted():
            assert together(base, requests) == answers
        base.bank.preemption_hook = come_in

    answers = together(base, requests)
    with torch.inference_mode():
        expected = losses(base, batch, 1, None)
        base.bank.preemption_hook = come_in
        try:
            assert torch.equal(losses(base, batch, 1, None), expected)
        finally:
            base.bank.preemption_hook = no_preemption
    assert comings > len(base.bank.layers)


class Broken:
    """A queue that cannot be read."""

    def start(self, base: Base) -> None:
        pass

    def next_job(self) -> Iterator[None] | None:
        raise RuntimeError("broken")


class Unwilling(Listener):
    """A prompt whose client cannot be asked whether it is still there."""

    @property
    def has_left(self) -> bool:
        raise RuntimeError("unwilling")

    @has_left.setter
    def has_left(self, value: bool) -> None:
        pass


def test_a_thread_that_ends_says_so_and_leaves_nobody_waiting(tiny: Loader, tmp_path: Path) -> None:
    base, failures = tiny("none"), list[Exception]()
    device = Device(lambda: base, Broken(), limits=PromptLimits(), training_share=0.25, failed=failures.append)
    device.start()
    device.join(DEADLINE_S)
    assert [str(failure) for failure in failures] == ["broken"]
    assert not device.is_alive
    with pytest.raises(BusyError):
        device.ask(Listener(lambda base: mixed(base, 1)[0]))
    with pytest.raises(BusyError):
        device.submit(lambda base: None)
    assert base.bank.preemption_hook is no_preemption


def test_a_fault_among_prompts_that_came_in_costs_neither_thread_nor_job(tiny: Loader, tmp_path: Path) -> None:
    base = tiny("none")
    expected = alone(tmp_path / "alone", base)
    job = Job(tmp_path / "beside")
    request = mixed(base, 2)[1]
    with beside(base, job, share=None) as (device, _):
        wait_for_base(device)
        good = device.ask(Listener(lambda base: request))
        good.result(DEADLINE_S)
        job.go.set()
        bad = device.ask(Unwilling(lambda base: request))
        assert job.ended.wait(DEADLINE_S)
        assert bad.result(DEADLINE_S).finish_reason == "cancelled"
        assert device.is_alive
        assert device.ask(Listener(lambda base: request)).result(DEADLINE_S) == good.result()
    assert outcome(job) == expected


def test_what_nobody_used_is_not_saved_for_a_job_to_come(tiny: Loader, tmp_path: Path) -> None:
    """A long time with prompts and without a job earns training nothing."""
    base = tiny("none")
    job = Job(tmp_path)
    request = mixed(base, 2)[1]
    with beside(base, job, share=0.9) as (device, _):
        wait_for_base(device)
        for _ in range(30):
            device.ask(Listener(lambda base: request)).result(DEADLINE_S)
        assert device._turns.shares._saved_s < 0.05 * device.seconds["prompts"]
        job.go.set()
        device.wake()
        assert job.ended.wait(DEADLINE_S)
