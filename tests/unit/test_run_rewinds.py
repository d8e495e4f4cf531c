"""Runs that a verdict of the watcher takes back: what they return to, and what is kept when files are lost."""

import math
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest
import torch

from steerzo_edge.model.subset import Copies
from steerzo_edge.records import EvalRecord, StepRecord, WatchRecord
from steerzo_edge.run import Run
from steerzo_edge.settings.sections import WatchConfig
from steerzo_edge.training.progress import Progress
from steerzo_edge.zo.entry import Entry
from steerzo_edge.zo.oracle import Round
from tests.conftest import Loader
from tests.contracts.pairwise import covering
from tests.unit.runs import finished, open_run


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


@pytest.fixture(scope="module")
def rewound(tiny: Loader, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], str]:
    """The hash of a whole run that goes back at step 9; and that it is another than of a run that does not."""
    known: dict[int, str] = {}

    def hash_of(back_to: int) -> str:
        if back_to not in known:
            base, path = tiny("none", torch.float32), tmp_path_factory.mktemp("rewound")
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(WatchConfig, "build", lambda self, by_score: Wild(9, back_to))
                whole = finished(path / "whole", base, **{"evaluate.keep": "last"})
                patch.setattr(WatchConfig, "build", lambda self, by_score: None)
                calm = finished(path / "calm", base, **{"evaluate.keep": "last", "watch.enabled": False})
            assert calm.sha256 != whole.sha256
            known[back_to] = whole.sha256
        return known[back_to]

    return hash_of


# Every pair occurs; of the 48 combinations of all three values, 16 do.
STOPPED = covering(
    {
        "lost": ["nothing", "snapshot.safetensors", "best.safetensors", "both"],
        "stop": ["0", "8", "13", "15"],
        "back_to": ["0", "3", "6"],
    }
)


@pytest.mark.parametrize(("lost", "stop", "back_to"), STOPPED)
def test_a_rewound_run_can_be_stopped_anywhere(
    tiny: Loader,
    rewound: Callable[[int], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lost: str,
    stop: str,
    back_to: str,
) -> None:
    """The verdict at step 9 gives up what came after `back_to`; every file but the journal may be lost."""
    base, expected = tiny("none", torch.float32), rewound(int(back_to))
    monkeypatch.setattr(WatchConfig, "build", lambda self, by_score: Wild(9, int(back_to)))
    first = open_run(tmp_path, base, **{"evaluate.keep": "last"})
    list(islice(first.records(), int(stop)))
    first.close()
    for name in ("snapshot.safetensors", "best.safetensors"):
        if lost in (name, "both"):
            (tmp_path / name).unlink(missing_ok=True)
    assert finished(tmp_path, base, **{"evaluate.keep": "last"}).sha256 == expected


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


def test_losses_that_are_not_finite_rewind_the_run(
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


def test_a_rewound_run_has_the_state_of_that_step() -> None:
    progress = Progress()
    for step in range(4):
        progress.add(Entry(StepRecord(step, 1.0, 1.0, 0.1, 0.1, step, step, 0.0, 0), carry={"slopes": step}))
        progress.add(Entry(EvalRecord(step + 1, 1.0, None, 8, False)))
    progress.add(Entry(WatchRecord(4, "diverged", "", 0.5, 2)))
    assert progress.carry == {"slopes": 1}
    assert progress.parameter_step == 2
    progress.add(Entry(WatchRecord(4, "diverged", "", 0.5, 0)))
    assert progress.carry == {}


def test_a_rewind_restores_the_adapters_bytes(
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


def test_steps_that_were_rewound_are_not_served(tiny: Loader, tmp_path: Path) -> None:
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
