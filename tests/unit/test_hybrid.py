"""Hybrid runs: what they are refused for, that both parts learn, and that they end as they must."""

import shutil
from itertools import islice
from pathlib import Path

import pytest
import torch
from torch import Tensor

from steerzo_edge.assemble import assemble
from steerzo_edge.errors import ProfileError
from steerzo_edge.model.bank import no_preemption
from steerzo_edge.model.base import Base
from steerzo_edge.records import EvalRecord, StepRecord, TuneRecord
from steerzo_edge.run import Result, Run
from steerzo_edge.run_data import tokenized
from steerzo_edge.settings.profile import Profile, load_profile, resolve, searches
from steerzo_edge.settings.sections import AdamConfig, WatchConfig
from steerzo_edge.training.exact import ADAM_RATE
from steerzo_edge.training.exact_steps import NOT_FINITE
from steerzo_edge.training.gradients import ExactGradients, StepGradient
from tests.conftest import Loader, completion_rows, labelled_rows
from tests.unit.test_decoding import mixed, together
from tests.unit.test_exact_resumed import Wild

STEPS = 9
DOCUMENT = {
    "subset": {"kind": "lora", "rank": 2, "freeze_a": False},
    "method": {"kind": "hybrid", "exact_layers": 1, "snapshot_every": 4, "estimator": {"pool": 3, "epsilon": 0.01}},
    "rule": {"kind": "adam", "learning_rate": 0.01},
    "batch": {"examples": 4, "max_tokens": 64},
    "steps": STEPS,
    "evaluate": {"every": 3, "holdout": 0.3},
}


def profile(**changes: object) -> Profile:
    return resolve(DOCUMENT, {"method.learning_rate": 0.02, **changes})


def opened(path: Path, base: Base, rows: object = labelled_rows, **changes: object) -> Run:
    return Run(path, base, profile(**changes), rows(), seed=1)  # type: ignore[operator]


def finished(path: Path, base: Base, **changes: object) -> Result:
    run = opened(path, base, **changes)
    list(run.records())
    result = run.finish()
    run.close()
    return result


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"objective": {"kind": "accuracy"}}, "method hybrid: objective accuracy has no gradient"),
        ({"subset.block_layers": 1}, "block_layers"),
        ({"rule": {"kind": "sgd", "learning_rate": "auto"}}, "rule sgd has no automatic rate"),
        ({"method.estimator": {"kind": "exact"}}, "method.*estimator"),
    ],
)
def test_what_has_no_exact_gradient_is_refused(changes: dict[str, object], reason: str) -> None:
    with pytest.raises(ProfileError, match=reason):
        profile(**changes)


@pytest.mark.parametrize(("layers", "last"), [(3, None), (4, None), (1, 1)])
def test_a_layer_must_be_left_for_the_estimator(tiny: Loader, layers: int, last: int | None) -> None:
    base, chosen = tiny("none"), profile(**{"method.exact_layers": layers, "subset.last_layers": last})
    data = tokenized(base.tokenizer, base.context_length, chosen, labelled_rows(), None, 1)
    with pytest.raises(ProfileError, match="at least one must be left for the estimator"):
        assemble(base, chosen, data, seed=1)


def test_one_setting_switches_to_it() -> None:
    changed = load_profile("cpu-demo", {"method.kind": "hybrid"})
    assert changed.rule == AdamConfig()
    assert not changed.method.is_decided
    assert searches(changed)
    assert not searches(profile())


def test_a_step_is_recorded(tiny: Loader, tmp_path: Path) -> None:
    run = opened(tmp_path, tiny("nf4"))
    entries = list(run._journal.entries)
    records = [record for record in run.records() if isinstance(record, StepRecord)]
    entries = [entry for entry in run._journal.entries if isinstance(entry.record, StepRecord)]
    run.close()
    assert [record.step for record in records] == list(range(STEPS))
    assert [record.forwards for record in records] == [4 * number for number in range(1, STEPS + 1)]
    assert all(record.loss is not None and record.slope > 0 for record in records)
    assert all(record.spread is not None and record.spread > 0 for record in records)
    assert all(record.epsilon == 0.01 for record in records)
    assert records[0].learning_rate == 0.01 > records[-1].learning_rate
    # All-losses steps have one length: the rate of the layers below, in units of the recorded rate.
    assert all(entry.gradient.scale == pytest.approx(0.02 / 0.01) for entry in entries)


def test_the_search_finds_the_rate_of_the_layers_below(tiny: Loader, tmp_path: Path) -> None:
    changes = {
        "method.learning_rate": "0.5 * auto",
        "method.estimator.epsilon": "auto",
        "rule.learning_rate": "auto",
    }
    run = opened(tmp_path, tiny("none"), **changes)
    start = run._parts.subset.parameters.clone()
    records = []
    for record in islice(run.records(), 3):
        records.append(record)
        if isinstance(record, TuneRecord):
            assert torch.equal(run._parts.subset.parameters, start)
    _, tuned, step = records
    (entry,) = (entry for entry in run._journal.entries if entry.record == step)
    run.close()
    assert isinstance(tuned, TuneRecord)
    assert isinstance(step, StepRecord)
    assert step.learning_rate == ADAM_RATE
    assert step.epsilon == tuned.epsilon
    assert entry.gradient.scale * ADAM_RATE == pytest.approx(tuned.learning_rate)


@pytest.mark.long
@pytest.mark.parametrize("rows", [labelled_rows, completion_rows])
def test_each_part_learns(tiny: Loader, tmp_path: Path, rows: object) -> None:
    """The loss falls by both together, and by each while the other is held where it is."""
    base = tiny("none")
    fallen = {}
    for name, changes in (
        ("both", {}),
        ("top", {"method.learning_rate": 1e-9}),
        ("below", {"rule.learning_rate": 1e-9}),
        ("none", {"rule.learning_rate": 1e-9, "method.learning_rate": 1e-9}),
    ):
        settings = {"steps": 30, "batch.examples": 8, "method.estimator.pool": 8, "method.learning_rate": "auto"}
        settings |= {"subset.rank": 4, "method.estimator.epsilon": "auto", **changes}
        run = opened(tmp_path / name, base, rows, **settings)
        before, *_, after = (record for record in run.records() if isinstance(record, EvalRecord))
        run.close()
        fallen[name] = 1 - after.loss / before.loss
    assert fallen["both"] > 0.2
    assert fallen["top"] > 0.1
    assert fallen["below"] > 0.005
    assert abs(fallen["none"]) < 1e-4


@pytest.fixture(scope="module")
def expected(tiny: Loader, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """The undisturbed run in nf4."""
    return finished(tmp_path_factory.mktemp("whole"), tiny("nf4", torch.bfloat16))


@pytest.mark.parametrize(
    ("stop", "lost", "killed"),
    [(1, "both", True), (5, "nothing", True), (6, "snapshot", False), (9, "both", True), (12, "both", False)],
)
def test_stopped_anywhere_it_ends_with_the_same_bytes(
    tiny: Loader, tmp_path: Path, expected: Result, stop: int, lost: str, killed: bool
) -> None:
    """Killed: the files as they are between two records; otherwise the run is closed first."""
    base = tiny("nf4", torch.bfloat16)
    run = opened(tmp_path / "stopped", base)
    list(islice(run.records(), stop))
    if killed:
        shutil.copytree(tmp_path / "stopped", tmp_path / "left")
    run.close()
    directory = tmp_path / ("left" if killed else "stopped")
    for name in ("snapshot", "best"):
        if lost in (name, "both"):
            (directory / f"{name}.safetensors").unlink(missing_ok=True)
    again = finished(directory, base)
    assert again.sha256 == expected.sha256
    assert (again.step, again.forwards, again.after) == (expected.step, expected.forwards, expected.after)


def test_a_run_killed_between_the_journal_and_the_two_moves_does_the_step_again(
    tiny: Loader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected: Result
) -> None:
    base = tiny("nf4", torch.bfloat16)
    run = opened(tmp_path / "broken", base)
    records = run.records()
    list(islice(records, 6))
    before = run._parts.subset.parameters.clone()

    def broken(parameters: Tensor, gradient: object, learning_rate: float) -> None:
        raise RuntimeError("broken on purpose")

    assert run._parts.below is not None
    monkeypatch.setattr(run._parts.below.rule, "step", broken)
    with pytest.raises(RuntimeError, match="on purpose"):
        list(records)
    assert not torch.equal(run._parts.subset.parameters, before)  # half a step, which no file may have
    run.close()
    monkeypatch.undo()
    assert finished(tmp_path / "broken", base).sha256 == expected.sha256


@pytest.mark.parametrize(("back_to", "lost"), [(0, "nothing"), (3, "both"), (6, "both")])
def test_a_run_that_was_taken_back_can_be_stopped(
    tiny: Loader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, back_to: int, lost: str
) -> None:
    monkeypatch.setattr(WatchConfig, "build", lambda self, by_score: Wild(back_to))
    base = tiny("none", torch.float32)
    changes = {"evaluate.keep": "last", "steps": 11}
    whole = finished(tmp_path / "whole", base, **changes)
    run = opened(tmp_path / "cut", base, **changes)
    list(islice(run.records(), 15))
    run.close()
    for name in ("snapshot.safetensors", "best.safetensors"):
        if lost == "both":
            (tmp_path / "cut" / name).unlink(missing_ok=True)
    assert finished(tmp_path / "cut", base, **changes).sha256 == whole.sha256


def test_a_gradient_that_is_not_finite_moves_nothing(
    tiny: Loader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = ExactGradients._computed

    def broken(self: ExactGradients, step: int) -> StepGradient:
        found = plain(self, step)
        return StepGradient(float("nan"), found.norm, found.vector) if step == 2 else found

    monkeypatch.setattr(ExactGradients, "_computed", broken)
    run = opened(tmp_path, tiny("none"), **{"watch.enabled": False, "evaluate.holdout": 0})
    states = [run._parts.subset.parameters.clone()]
    for record in run.records():
        assert isinstance(record, StepRecord)
        states.append(run._parts.subset.parameters.clone())
        assert record.skipped == (NOT_FINITE if record.step == 2 else None)
    run.close()
    assert torch.equal(states[3], states[2])
    assert not torch.equal(states[4], states[3])


def test_probes_that_are_not_finite_leave_the_layers_below_alone(tiny: Loader, tmp_path: Path) -> None:
    run = opened(tmp_path, tiny("none"), **{"evaluate.holdout": 0, "steps": 1})
    oracle = run._parts.oracle
    plain = oracle.evaluate
    oracle.evaluate = lambda round: [float("nan") for _ in plain(round)]  # type: ignore[method-assign]
    start = run._parts.subset.parameters.clone()
    (record,) = run.records()
    moved = run._parts.subset.parameters != start
    below = run._parts.blocks.blocks[0].span
    run.close()
    assert isinstance(record, StepRecord)
    assert record.dropped == 3
    assert record.skipped is None
    assert not moved[below].any()
    assert moved[below.stop :].any()


@pytest.mark.long
def test_prompts_come_in_between_layers_and_change_nothing(tiny: Loader, tmp_path: Path) -> None:
    base = tiny("nf4", torch.bfloat16)
    changes = {"evaluate.holdout": 0, "steps": 1}
    expected = finished(tmp_path / "alone", base, **changes)
    run = opened(tmp_path / "beside", base, **changes)
    requests = mixed(base, 3)
    answers = together(base, requests)
    comings = 0

    def come_in() -> None:
        nonlocal comings
        comings += 1
        base.bank.preemption_hook = no_preemption
        with base.preempted():
            assert together(base, requests) == answers
            assert torch.equal(run.patches()["model.layers.0.mlp.down_proj"].b[0], served)  # type: ignore[attr-defined]
        base.bank.preemption_hook = come_in

    served = run.patches()["model.layers.0.mlp.down_proj"].b[0].clone()  # type: ignore[attr-defined]
    base.bank.preemption_hook = come_in
    try:
        list(run.records())
    finally:
        base.bank.preemption_hook = no_preemption
    found = run.finish()
    run.close()
    assert comings > 2 * len(base.bank.layers)
    assert found.sha256 == expected.sha256
