"""Runs with exact gradients: what they are refused for, how they are built, and that they end as they must."""

from pathlib import Path

import pytest
import torch

from steerzo_edge.assemble import assemble, plan_of
from steerzo_edge.errors import CapacityError, ProfileError
from steerzo_edge.model.bank import no_preemption
from steerzo_edge.records import EvalRecord, StepRecord
from steerzo_edge.run import Run
from steerzo_edge.run_data import tokenized
from steerzo_edge.settings.profile import load_profile, resolve
from steerzo_edge.settings.sections import AdamConfig
from steerzo_edge.training.exact import ADAM_RATE
from steerzo_edge.training.exact_steps import NOT_FINITE
from steerzo_edge.training.gradients import StepGradient
from tests.conftest import Loader, completion_rows, labelled_rows
from tests.unit.exact_runs import STEPS, opened, profile
from tests.unit.test_decoding import mixed, together


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"objective": {"kind": "accuracy"}}, "objective accuracy has no gradient"),
        ({"subset.block_layers": 1}, "block_layers"),
        ({"rule": {"kind": "sgd", "learning_rate": "auto"}}, "rule sgd has no automatic rate"),
        ({"rule": {"kind": "momentum", "learning_rate": "0.5 * auto"}}, "rule momentum has no automatic rate"),
    ],
)
def test_what_has_no_exact_gradient_is_refused(changes: dict[str, object], reason: str) -> None:
    with pytest.raises(ProfileError, match=reason):
        profile(**changes)


def test_one_setting_switches_to_it() -> None:
    changed = load_profile("cpu-demo", {"method.kind": "exact"})
    assert changed.rule == AdamConfig()
    assert resolve({"method": {"kind": "exact"}}).rule == AdamConfig()
    rate = load_profile("cpu-demo", {"method.kind": "exact", "rule.learning_rate": 2e-4})
    assert rate.rule == AdamConfig(learning_rate=2e-4)
    adam = resolve({"rule": {"kind": "adam", "beta1": 0.5}}, {"method.kind": "exact"})
    assert adam.rule == AdamConfig(beta1=0.5)
    kept = load_profile("cpu-demo", {"method.kind": "exact", "rule.kind": "sgd", "rule.learning_rate": 0.1})
    assert kept.rule.kind == "sgd"
    assert load_profile("cpu-demo", {"method.kind": "two-point"}).rule == load_profile("cpu-demo").rule


@pytest.mark.parametrize(("setting", "rate"), [("auto", ADAM_RATE), ("0.5 * auto", ADAM_RATE / 2), (0.02, 0.02)])
def test_the_rate_of_adam(tiny: Loader, setting: object, rate: float) -> None:
    base, chosen = tiny("none"), profile(**{"rule.learning_rate": setting})
    data = tokenized(base.tokenizer, base.context_length, chosen, labelled_rows(), None, 1)
    assert assemble(base, chosen, data, seed=1).learning_rate == rate


def test_a_step_is_recorded(tiny: Loader, tmp_path: Path) -> None:
    run = opened(tmp_path, tiny("nf4"))
    records = [record for record in run.records() if isinstance(record, StepRecord)]
    run.close()
    assert [record.step for record in records] == list(range(STEPS))
    assert [record.forwards for record in records] == list(range(1, STEPS + 1))
    assert all(record.loss is not None and record.slope > 0 for record in records)
    assert records[-1].tokens > records[0].tokens > 0
    assert records[0].learning_rate == 0.01 > records[-1].learning_rate
    assert {record.kind for record in run.recorded} == {"step", "eval"}


@pytest.mark.parametrize("rows", [labelled_rows, completion_rows])
def test_it_learns_what_probes_learn_in_many_more_steps(tiny: Loader, tmp_path: Path, rows: object) -> None:
    chosen = profile(**{"steps": 20, "subset.rank": 4, "batch.examples": 8, "rule.learning_rate": "auto"})
    run = Run(tmp_path, tiny("none"), resolve(chosen.model_dump(), {"rule.learning_rate": 0.01}), rows(), seed=1)  # type: ignore[operator]
    before, *_, after = (record for record in run.records() if isinstance(record, EvalRecord))
    run.close()
    assert after.loss < 0.7 * before.loss


def test_a_gradient_that_is_not_finite_moves_nothing(
    tiny: Loader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = opened(tmp_path, tiny("none"), **{"watch.enabled": False})
    exact = run._parts.exact
    assert exact is not None
    plain = exact._gradients.of

    def broken(step: int) -> StepGradient:
        found = plain(step)
        return StepGradient(float("nan"), found.norm, found.vector) if step == 2 else found

    monkeypatch.setattr(exact._gradients, "of", broken)
    states = [run._parts.subset.parameters.clone()]
    for record in run.records():
        if isinstance(record, StepRecord):
            states.append(run._parts.subset.parameters.clone())
            assert record.skipped == (NOT_FINITE if record.step == 2 else None)
            assert (record.loss is None) == (record.step == 2)
    run.close()
    assert torch.equal(states[3], states[2])
    assert not torch.equal(states[4], states[3])


def test_long_gradients_are_scaled_down(tiny: Loader, tmp_path: Path) -> None:
    base = tiny("none")
    sgd = {
        "rule": {"kind": "sgd", "learning_rate": 0.5},
        "steps": 1,
        "evaluate.holdout": 0,
        "schedule.kind": "constant",
    }
    moves, norms = [], []
    for number, bound in enumerate((None, 0.01)):
        run = opened(tmp_path / str(number), base, **sgd, **{"method.max_norm": bound})
        start = run._parts.subset.parameters.clone()
        (record,) = run.records()
        run.close()
        assert isinstance(record, StepRecord)
        moves.append(float((run._parts.subset.parameters - start).norm()))
        norms.append(record.slope)
        assert record.clipped == (bound is not None)
    assert norms[0] == norms[1]
    assert moves[0] == pytest.approx(0.5 * norms[0], rel=1e-4)
    assert moves[1] == pytest.approx(0.5 * 0.01, rel=1e-4)


def test_prompts_come_in_between_layers_and_change_nothing(tiny: Loader, tmp_path: Path) -> None:
    base = tiny("nf4", torch.bfloat16)
    run = opened(tmp_path, base)
    exact = run._parts.exact
    assert exact is not None
    exact._gradients._keep_from = 3  # all layers run twice
    expected = exact._gradients.of(0)
    vector = expected.vector.clone()
    requests = mixed(base, 3)
    answers = together(base, requests)
    comings = 0

    def come_in() -> None:
        nonlocal comings
        comings += 1
        base.bank.preemption_hook = no_preemption
        with base.preempted():
            assert together(base, requests) == answers
        base.bank.preemption_hook = come_in

    base.bank.preemption_hook = come_in
    try:
        found = exact._gradients.of(0)
    finally:
        base.bank.preemption_hook = no_preemption
        run.close()
    assert comings > 2 * len(base.bank.layers)
    assert found.loss == expected.loss
    assert torch.equal(found.vector, vector)


def test_memory_that_runs_out_is_saved_once(tiny: Loader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tiny("none")
    run = opened(tmp_path, base, memory="fast")
    exact = run._parts.exact
    assert exact is not None
    gradients = exact._gradients
    assert gradients._keep_from == 0
    plain, calls = gradients._computed, []

    def short(step: int) -> StepGradient:
        calls.append(gradients._keep_from)
        if gradients._keep_from < 3 or step == 1:
            raise torch.OutOfMemoryError("as if")
        return plain(step)

    monkeypatch.setattr(gradients, "_computed", short)
    assert gradients.of(0).finite
    assert calls == [0, 3]
    with pytest.raises(CapacityError, match="does not fit"):
        gradients.of(1)
    run.close()


def test_memory_decides_how_much_is_kept(tiny: Loader) -> None:
    base = tiny("nf4", torch.bfloat16)
    plans = {}
    for memory in ("lean", "fast"):
        chosen = profile(memory=memory)
        data = tokenized(base.tokenizer, base.context_length, chosen, labelled_rows(), None, 1)
        plans[memory] = plan_of(base, chosen, data)
    assert plans["fast"].kept_layers == 3
    assert plans["lean"].kept_layers <= 1  # keeping the topmost layer takes no more than running it twice
    assert plans["lean"].part_tokens == plans["fast"].part_tokens  # whole batches
