"""A run and its directory: whatever is lost but the journal, the result has the same bytes."""

import json
import math
import time
import zlib
from contextlib import nullcontext
from itertools import islice
from pathlib import Path

import pytest
import torch

from steerzo_edge.errors import JournalError, ProfileError
from steerzo_edge.model.base import Base
from steerzo_edge.model.subset import Copies
from steerzo_edge.records import EvalRecord, StepRecord, TuneRecord, WatchRecord
from steerzo_edge.run import Result, Run
from steerzo_edge.settings import sections
from steerzo_edge.settings.profile import Profile, resolve
from steerzo_edge.settings.sections import WatchConfig
from steerzo_edge.training.progress import Progress
from steerzo_edge.zo.entry import Entry
from steerzo_edge.zo.oracle import Round
from tests.conftest import Loader, labelled_rows

STEPS = 13


def profile(**changes: object) -> Profile:
    document = {
        "subset": {"kind": "lora", "rank": 2},
        "method": {"kind": "guiding-vector", "pool": 3, "history": "keep-best", "epsilon": 0.01},
        "rule": {"kind": "adam", "learning_rate": 0.02},
        "batch": {"examples": 4, "max_tokens": 64},
        "steps": STEPS,
        "evaluate": {"every": 3, "holdout": 0.3},
    }
    return resolve(document, changes)


def open_run(path: Path, base: Base, **changes: object) -> Run:
    return Run(path, base, profile(**changes), labelled_rows(), seed=1, snapshot_every=4)


def finished(path: Path, base: Base, **changes: object) -> Result:
    run = open_run(path, base, **changes)
    list(run.records())
    run.close()
    return run.finish()


def test_a_run_writes_the_best_version(tiny: Loader, tmp_path: Path) -> None:
    base = tiny("nf4")
    run = open_run(tmp_path, base)
    evaluations = [record for record in run.records() if isinstance(record, EvalRecord)]
    result = run.finish()
    run.close()
    assert [record.step for record in evaluations] == [0, 3, 6, 9, 12, 13]
    best = max(evaluations, key=lambda record: (record.accuracy or 0, -record.loss))
    assert result.step == best.step
    assert result.before == evaluations[0]
    assert result.after == best
    assert sorted(path.name for path in result.adapter.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]


@pytest.mark.parametrize("stop", range(0, 19, 3))
@pytest.mark.parametrize("lost", ["nothing", "snapshot.safetensors", "best.safetensors", "both"])
def test_stopped_anywhere_it_ends_with_the_same_bytes(tiny: Loader, tmp_path: Path, stop: int, lost: str) -> None:
    base = tiny("nf4")
    expected = finished(tmp_path / "whole", base)

    run = open_run(tmp_path / "stopped", base)
    list(islice(run.records(), stop))
    run.close()
    for name in ("snapshot.safetensors", "best.safetensors"):
        if lost in (name, "both"):
            (tmp_path / "stopped" / name).unlink(missing_ok=True)

    again = finished(tmp_path / "stopped", base)
    assert again.sha256 == expected.sha256
    assert (again.step, again.forwards, again.after) == (expected.step, expected.forwards, expected.after)


def test_keep_last_takes_the_last_step(tiny: Loader, tmp_path: Path) -> None:
    result = finished(tmp_path, tiny("nf4"), **{"evaluate.keep": "last"})
    assert result.step == STEPS
    assert not (tmp_path / "best.safetensors").exists()


def test_early_stopping_ends_the_run(tiny: Loader, tmp_path: Path) -> None:
    changes = {"evaluate.early_stop": 1, "rule.learning_rate": 1e-9, "evaluate.every": 1}
    run = open_run(tmp_path, tiny("nf4"), **changes)
    records = [record for record in run.records() if isinstance(record, EvalRecord)]
    run.close()
    assert len(records) < STEPS
    assert not records[-1].best


@pytest.mark.parametrize(
    ("what", "changes", "seed", "rows"),
    [("seed", {}, 2, 20), ("data", {}, 1, 19), ("profile", {"steps": 14}, 1, 20)],
)
def test_another_run_in_the_same_directory_is_refused(
    tiny: Loader, tmp_path: Path, what: str, changes: dict[str, object], seed: int, rows: int
) -> None:
    base = tiny("nf4")
    run = open_run(tmp_path, base)
    next(run.records())
    run.close()
    with pytest.raises(JournalError, match=f"another {what}"):
        Run(tmp_path, base, profile(**changes), labelled_rows(rows), seed=seed)


def test_a_run_that_an_older_version_began_goes_on(tiny: Loader, tmp_path: Path) -> None:
    base = tiny("nf4")
    expected = finished(tmp_path / "whole", base)
    run = open_run(tmp_path / "old", base)
    list(islice(run.records(), 7))
    run.close()

    journal = tmp_path / "old" / "journal"
    first, *lines = journal.read_bytes().splitlines(keepends=True)
    header = json.loads(first[9:])
    header["profile"]["subset"]["a"] = header["profile"]["subset"].pop("init_a")
    header["profile"]["batch"]["cuda_graphs"] = False
    text = json.dumps(header, separators=(",", ":")).encode()
    journal.write_bytes(b"".join([b"%08x %s\n" % (zlib.crc32(text), text), *lines]))

    assert finished(tmp_path / "old", base).sha256 == expected.sha256


def test_another_base_is_refused(tiny: Loader, tmp_path: Path) -> None:
    run = open_run(tmp_path, tiny("nf4"))
    run.close()
    with pytest.raises(JournalError, match="another base"):
        open_run(tmp_path, tiny("int8"))


def test_the_served_adapter_is_the_last_finished_steps(tiny: Loader, tmp_path: Path) -> None:
    base = tiny("nf4")
    run = open_run(tmp_path, base)
    seen = []
    for record in run.records():
        if isinstance(record, StepRecord):
            (patch,) = islice(run.patches().values(), 1)
            seen.append(patch.b.clone())  # type: ignore[attr-defined]
    run.close()
    assert len({tensor.float().numpy().tobytes() for tensor in seen}) == STEPS


class Wild:
    """A watcher that goes back once, wherever it is told to, as if the run had diverged."""

    def __init__(self, at: int, back_to: int) -> None:
        self.at, self.back_to = at, back_to

    def rescue(self, *arguments: object) -> WatchRecord:
        raise AssertionError("losses are numbers here")

    def judge(self, evaluations: list[EvalRecord], verdicts: list[WatchRecord], share: float) -> WatchRecord | None:
        if evaluations[-1].step != self.at or verdicts:
            return None
        return WatchRecord(self.at, "diverged", "as if", 0.5, self.back_to)


@pytest.mark.parametrize("back_to", [0, 3, 6])
@pytest.mark.parametrize("lost", ["nothing", "snapshot.safetensors", "best.safetensors", "both"])
@pytest.mark.parametrize("stop", [0, 8, 13, 15])
def test_a_run_that_was_taken_back_can_be_stopped_anywhere(
    tiny: Loader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, back_to: int, lost: str, stop: int
) -> None:
    """The verdict at step 9 gives up what came after `back_to`; every file but the journal may be lost."""
    monkeypatch.setattr(WatchConfig, "build", lambda self, by_score: Wild(9, back_to))
    base = tiny("none", torch.float32)
    whole = finished(tmp_path / "whole", base, **{"evaluate.keep": "last"})
    calm = profile(**{"evaluate.keep": "last", "watch.enabled": False})
    monkeypatch.setattr(WatchConfig, "build", lambda self, by_score: None)
    undisturbed = Run(tmp_path / "calm", base, calm, labelled_rows(), seed=1)
    list(undisturbed.records())
    assert undisturbed.finish().sha256 != whole.sha256
    undisturbed.close()

    monkeypatch.setattr(WatchConfig, "build", lambda self, by_score: Wild(9, back_to))
    first = open_run(tmp_path / "cut", base, **{"evaluate.keep": "last"})
    list(islice(first.records(), stop))
    first.close()
    for name in ("snapshot.safetensors", "best.safetensors"):
        if lost in (name, "both"):
            (tmp_path / "cut" / name).unlink(missing_ok=True)
    assert finished(tmp_path / "cut", base, **{"evaluate.keep": "last"}).sha256 == whole.sha256


@pytest.mark.parametrize("stop", [0, 1, 2, 3, 9])
def test_what_auto_found_is_not_searched_for_again(tiny: Loader, tmp_path: Path, stop: int) -> None:
    changes = {"method.epsilon": "auto", "rule.learning_rate": "auto"}
    base = tiny("none", torch.float32)
    run = open_run(tmp_path / "whole", base, **changes)
    records = list(run.records())
    run.close()
    (tuned,) = (record for record in records if isinstance(record, TuneRecord))
    steps = [record for record in records if isinstance(record, StepRecord)]
    assert {step.epsilon for step in steps} == {tuned.epsilon}
    assert steps[0].learning_rate == tuned.learning_rate
    assert tuned.forwards > 50
    assert steps[0].forwards == tuned.forwards + 5  # paid for, and told
    assert "learning rate" in tuned.message
    assert "probe radius" in tuned.message

    first = open_run(tmp_path / "cut", base, **changes)
    list(islice(first.records(), stop))
    first.close()
    again = open_run(tmp_path / "cut", base, **changes)
    rest = list(again.records())
    again.close()
    assert any(isinstance(record, TuneRecord) for record in rest) == (stop < 2)
    assert again.finish().sha256 == run.finish().sha256


def test_a_rate_may_be_a_multiple_of_what_is_found(tiny: Loader, tmp_path: Path) -> None:
    found = {}
    for rate in ("auto", "0.25 * auto"):
        run = open_run(tmp_path / rate, tiny("none", torch.float32), **{"rule.learning_rate": rate})
        found[rate] = list(islice(run.records(), 3))
        run.close()
    whole, quarter = (
        [record for record in records if not isinstance(record, EvalRecord)] for records in found.values()
    )
    assert isinstance(whole[0], TuneRecord)
    assert isinstance(quarter[0], TuneRecord)
    assert isinstance(quarter[1], StepRecord)
    assert quarter[0].learning_rate == pytest.approx(0.25 * whole[0].learning_rate)
    assert quarter[1].learning_rate == quarter[0].learning_rate
    assert "times 0.25 as asked" in quarter[0].message


@pytest.mark.parametrize("rate", ["0 * auto", "-1 * auto", "auto * 2", "* auto", "1000 * auto", "car"])
def test_multiples_that_mean_nothing_are_refused(rate: str) -> None:
    with pytest.raises(ProfileError, match="rule"):
        profile(**{"rule.learning_rate": rate})


def test_the_best_of_a_step_whose_verdict_went_back_is_that_steps(
    tiny: Loader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The adapter of the best evaluation, although a verdict at the same step took the run back."""
    monkeypatch.setattr(WatchConfig, "build", lambda self, by_score: Wild(9, 3))
    monkeypatch.setattr(Progress, "improves", lambda self, found: self.step in (0, 9))
    base = tiny("none", torch.float32)
    kept = finished(tmp_path / "kept", base)
    assert kept.step == 9
    monkeypatch.setattr(Run, "_save", lambda *arguments: None)
    assert finished(tmp_path / "lost", base).sha256 == kept.sha256


def test_losses_that_are_no_numbers_take_the_run_back(
    tiny: Loader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tiny("none", torch.float32)
    changes = {"steps": 80, "evaluate.every": 5, "watch.retries": 1, "rule.learning_rate": 1e-4}
    run = open_run(tmp_path, base, **changes)
    measured = run._parts.oracle.evaluate

    def broken(round: Round) -> list[float]:
        found = measured(round)
        return found if run.progress.step < 12 else [math.nan for _ in found]

    monkeypatch.setattr(run._parts.oracle, "evaluate", broken)
    verdicts = [record for record in run.records() if isinstance(record, WatchRecord)]
    result = run.finish()
    run.close()
    assert [(record.step, record.stop) for record in verdicts] == [(37, False), (62, True)]
    assert result.step <= 10
    assert result.after is not None


def test_a_run_that_goes_back_remembers_what_it_knew_then() -> None:
    progress = Progress()
    for step in range(4):
        progress.add(Entry(StepRecord(step, 1.0, 1.0, 0.1, 0.1, step, step, 0.0, 0), carry={"slopes": step}))
        progress.add(Entry(EvalRecord(step + 1, 1.0, None, 8, False)))
    progress.add(Entry(WatchRecord(4, "diverged", "", 0.5, 2)))
    assert progress.carry == {"slopes": 1}
    assert progress.parameter_step == 2
    progress.add(Entry(WatchRecord(4, "diverged", "", 0.5, 0)))
    assert progress.carry == {}


def test_a_verdict_goes_back_to_what_the_adapter_was(
    tiny: Loader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WatchConfig, "build", lambda self, by_score: Wild(9, 3))
    run = open_run(tmp_path, tiny("none", torch.float32))
    seen = {}
    for record in run.records():
        if isinstance(record, EvalRecord | WatchRecord):
            parameters, state = run._parts.subset.parameters.clone(), run._parts.rule.state()["mean"].clone()
            seen[record.kind, record.step] = parameters, state
    run.close()
    for then, now in zip(seen["eval", 3], seen["watch", 9], strict=True):
        assert torch.equal(then, now)
    rates = [record.learning_rate for record in run.recorded if isinstance(record, StepRecord)]
    assert rates[9] < 0.55 * rates[8]


DERIVED = {
    "input-subspace": {"subset.init_a": "input-subspace", "subset.rank": 3},
    "lora-xs": {"subset.kind": "lora-xs", "subset.rank": 4},
}


@pytest.mark.parametrize("subset", DERIVED)
@pytest.mark.parametrize("lost", ["nothing", "frozen.safetensors", "all but the journal"])
def test_what_is_derived_survives(tiny: Loader, tmp_path: Path, subset: str, lost: str) -> None:
    base, changes = tiny("nf4"), DERIVED[subset]
    expected = finished(tmp_path / "whole", base, **changes)
    run = open_run(tmp_path / "stopped", base, **changes)
    assert (tmp_path / "stopped" / "frozen.safetensors").exists()
    list(islice(run.records(), 9))
    run.close()
    for path in (tmp_path / "stopped").glob("*.safetensors"):
        if lost == "all but the journal" or path.name == lost:
            path.unlink()
    again = finished(tmp_path / "stopped", base, **changes)
    assert again.sha256 == expected.sha256
    kept = [(tmp_path / name / "frozen.safetensors").read_bytes() for name in ("whole", "stopped")]
    assert kept[0] == kept[1]


@pytest.mark.parametrize("subset", DERIVED)
def test_a_run_goes_on_with_the_bits_that_were_kept(
    tiny: Loader, tmp_path: Path, subset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, changes = tiny("nf4"), DERIVED[subset]
    expected = finished(tmp_path / "whole", base, **changes)
    open_run(tmp_path / "stopped", base, **changes).close()

    # As if this machine rounded otherwise: without the file, the run would be another one.
    for name in ("input_subspace", "lora_xs_factors"):
        derive = getattr(sections, name)
        monkeypatch.setattr(sections, name, lambda *a, _derive=derive, **k: _derive(*a, **k) * 1.25)
    assert finished(tmp_path / "stopped", base, **changes).sha256 == expected.sha256
    assert finished(tmp_path / "elsewhere", base, **changes).sha256 != expected.sha256


@pytest.mark.parametrize("damage", [b"", b"not a tensor"], ids=["empty", "garbage"])
def test_a_damaged_frozen_file_is_made_again(
    tiny: Loader, tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    base, changes = tiny("nf4"), DERIVED["lora-xs"]
    open_run(tmp_path, base, **changes).close()
    path = tmp_path / "frozen.safetensors"
    whole = path.read_bytes()
    path.write_bytes(damage)
    open_run(tmp_path, base, **changes).close()
    assert path.read_bytes() == whole
    assert "made again" in caplog.text


def test_another_runs_frozen_file_is_neither_read_nor_replaced(tiny: Loader, tmp_path: Path) -> None:
    base = tiny("nf4")
    open_run(tmp_path, base, **DERIVED["lora-xs"]).close()
    before = (tmp_path / "frozen.safetensors").read_bytes()
    with pytest.raises(JournalError, match="another"):
        open_run(tmp_path, base, **DERIVED["lora-xs"] | {"subset.rank": 5})
    assert (tmp_path / "frozen.safetensors").read_bytes() == before
    (tmp_path / "journal").unlink()
    open_run(tmp_path, base, **DERIVED["lora-xs"] | {"subset.rank": 5}).close()
    assert (tmp_path / "frozen.safetensors").read_bytes() != before


def test_what_was_taken_back_is_not_served(tiny: Loader, tmp_path: Path) -> None:
    run = open_run(tmp_path, tiny("nf4"))
    steps = run.records()
    while run.progress.step < 5:
        next(steps)
    before = run.patches()
    assert run.patches() is before
    run._rewind(2)
    taken_back = Copies(run._parts.subset, 1).hold()
    served = run.patches()
    assert served is not before
    for name, patch in served.items():
        assert torch.equal(patch.b, taken_back[name].b)  # type: ignore[attr-defined]
    run.close()


@pytest.mark.parametrize("is_preempted", [True, False], ids=["preempted", "not preempted"])
def test_a_step_s_seconds_leave_out_preemption(
    tiny: Loader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_preempted: bool
) -> None:
    """On a clock of its own: a linear layer takes one second, and preemption before it takes a thousand."""
    now, layers = 0.0, 0

    def before_a_layer() -> None:
        nonlocal now, layers
        layers += 1
        now += 1
        with base.preempted() if is_preempted else nullcontext():
            now += 1000

    base = tiny("nf4")
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    run = open_run(tmp_path, base)
    steps = (record for record in run.records() if isinstance(record, StepRecord))
    next(steps)
    monkeypatch.setattr(base.bank, "preemption_hook", before_a_layer)
    record = next(steps)
    run.close()
    assert layers > 0
    assert record.seconds == (layers if is_preempted else 1001 * layers)
