"""A run and its directory: whatever is lost but the journal, the result has the same bytes."""

import json
import time
import zlib
from contextlib import nullcontext
from itertools import islice
from pathlib import Path

import pytest
import torch

from steerzo_edge.errors import JournalError, ProfileError
from steerzo_edge.records import EvalRecord, Record, StepRecord, TuneRecord
from steerzo_edge.run import Result, Run
from tests.conftest import Loader, labelled_rows
from tests.unit.runs import STEPS, finished, open_run, profile

AUTO = {"method.epsilon": "auto", "rule.learning_rate": "auto"}


@pytest.fixture(scope="module")
def whole(tiny: Loader, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """What a run reaches that nothing disturbs."""
    return finished(tmp_path_factory.mktemp("whole"), tiny("nf4"))


@pytest.fixture(scope="module")
def searched(tiny: Loader, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Record], Result]:
    """A whole run that finds its radius and learning rate by itself."""
    run = open_run(tmp_path_factory.mktemp("searched"), tiny("none", torch.float32), **AUTO)
    records = list(run.records())
    run.close()
    return records, run.finish()


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
def test_stopped_anywhere_it_ends_with_the_same_bytes(
    tiny: Loader, whole: Result, tmp_path: Path, stop: int, lost: str
) -> None:
    base = tiny("nf4")
    run = open_run(tmp_path, base)
    list(islice(run.records(), stop))
    run.close()
    for name in ("snapshot.safetensors", "best.safetensors"):
        if lost in (name, "both"):
            (tmp_path / name).unlink(missing_ok=True)

    again = finished(tmp_path, base)
    assert again.sha256 == whole.sha256
    assert (again.step, again.forwards, again.after) == (whole.step, whole.forwards, whole.after)


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


def test_a_run_that_an_older_version_began_goes_on(tiny: Loader, whole: Result, tmp_path: Path) -> None:
    base = tiny("nf4")
    run = open_run(tmp_path, base)
    list(islice(run.records(), 7))
    run.close()

    journal = tmp_path / "journal"
    first, *lines = journal.read_bytes().splitlines(keepends=True)
    header = json.loads(first[9:])
    header["profile"]["subset"]["a"] = header["profile"]["subset"].pop("init_a")
    header["profile"]["batch"]["cuda_graphs"] = False
    text = json.dumps(header, separators=(",", ":")).encode()
    journal.write_bytes(b"".join([b"%08x %s\n" % (zlib.crc32(text), text), *lines]))

    assert finished(tmp_path, base).sha256 == whole.sha256


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


def test_what_auto_found_is_used_and_told(searched: tuple[list[Record], Result]) -> None:
    records, _ = searched
    (tuned,) = (record for record in records if isinstance(record, TuneRecord))
    steps = [record for record in records if isinstance(record, StepRecord)]
    assert {step.epsilon for step in steps} == {tuned.epsilon}
    assert steps[0].learning_rate == tuned.learning_rate
    assert tuned.forwards > 50
    assert steps[0].forwards == tuned.forwards + 5  # paid for, and told
    assert "learning rate" in tuned.message
    assert "probe radius" in tuned.message


@pytest.mark.parametrize("stop", [0, 1, 2, 3, 9])
def test_what_auto_found_is_not_searched_for_again(
    tiny: Loader, searched: tuple[list[Record], Result], tmp_path: Path, stop: int
) -> None:
    base = tiny("none", torch.float32)
    first = open_run(tmp_path, base, **AUTO)
    list(islice(first.records(), stop))
    first.close()
    again = open_run(tmp_path, base, **AUTO)
    rest = list(again.records())
    again.close()
    assert any(isinstance(record, TuneRecord) for record in rest) == (stop < 2)
    assert again.finish().sha256 == searched[1].sha256


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
