"""One device for training and prompts: which of them runs when, and that no result depends on it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from steerzo_edge.data.batches import collate
from steerzo_edge.decoding.decoder import Request
from steerzo_edge.model.bank import no_preemption
from steerzo_edge.model.base import Base
from steerzo_edge.model.patches import LoraPatch, Patches
from steerzo_edge.objectives.likelihood import losses
from steerzo_edge.run import Run
from steerzo_edge.run_data import tokenized
from steerzo_edge.settings.profile import resolve
from tests.conftest import Loader, labelled_rows, phrase_rows
from tests.unit.device_jobs import DEADLINE_S, PROFILE, Job, Listener, alone, beside, given, outcome, wait_for_base
from tests.unit.test_decoding import mixed, together


@pytest.mark.long
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
def test_a_job_and_32_prompts_do_not_affect_each_other(
    tiny: Loader, tmp_path: Path, changes: dict[str, Any]
) -> None:
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


def test_a_preempted_forward_continues_where_it_stopped(tiny: Loader) -> None:
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


def test_unused_device_time_is_not_credited_to_a_later_job(tiny: Loader, tmp_path: Path) -> None:
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
