"""Faults on the device: what ends its thread is told, what breaks a prompt or a call costs no job."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from server.device.prompts import PromptLimits
from server.device.thread import Device
from steerzo_edge.errors import BusyError
from steerzo_edge.model.bank import no_preemption
from steerzo_edge.model.base import Base
from steerzo_edge.model.patches import LoraPatch
from tests.conftest import Loader
from tests.unit.device_jobs import DEADLINE_S, Job, Listener, alone, beside, outcome, wait_for_base
from tests.unit.test_decoding import mixed


def test_a_failing_call_fails_only_its_caller(tiny: Loader, tmp_path: Path) -> None:
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


def test_a_thread_that_ends_fails_all_who_wait(tiny: Loader, tmp_path: Path) -> None:
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


def test_a_failing_prompt_ends_neither_the_thread_nor_the_job(tiny: Loader, tmp_path: Path) -> None:
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
