"""Runs with exact gradients that were stopped, killed, broken or taken back end with the same bytes."""

import logging
import shutil
from itertools import islice
from pathlib import Path

import pytest
import torch

from steerzo_edge.records import EvalRecord, WatchRecord
from steerzo_edge.run import Result
from steerzo_edge.settings.sections import WatchConfig
from steerzo_edge.training.gradients import ExactGradients, StepGradient
from tests.conftest import Loader
from tests.contracts.pairwise import covering
from tests.unit.exact_runs import finished, opened


@pytest.fixture(scope="module")
def expected(tiny: Loader, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """The undisturbed run in nf4."""
    return finished(tmp_path_factory.mktemp("whole"), tiny("nf4", torch.bfloat16))


# Every pair occurs; of the 24 combinations of all three values, 12 do.
STOPPED = covering(
    {
        "stop": ["1", "6", "9", "14"],
        "lost": ["nothing", "snapshot.safetensors", "both"],
        "how": ["killed", "closed"],
    }
)


@pytest.mark.parametrize(("stop", "lost", "how"), STOPPED)
def test_stopped_anywhere_it_ends_with_the_same_bytes(
    tiny: Loader, tmp_path: Path, expected: Result, stop: str, lost: str, how: str
) -> None:
    """Killed: the files as they are between two records; otherwise the run is closed first."""
    base = tiny("nf4", torch.bfloat16)
    run = opened(tmp_path / "stopped", base)
    list(islice(run.records(), int(stop)))
    if how == "killed":
        shutil.copytree(tmp_path / "stopped", tmp_path / "left")
    run.close()
    directory = tmp_path / ("left" if how == "killed" else "stopped")
    for name in ("snapshot.safetensors", "best.safetensors"):
        if lost in (name, "both"):
            (directory / name).unlink(missing_ok=True)
    again = finished(directory, base)
    assert again.sha256 == expected.sha256
    assert (again.step, again.forwards, again.after) == (expected.step, expected.forwards, expected.after)


def test_few_steps_are_computed_again(tiny: Loader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tiny("nf4", torch.bfloat16)
    run = opened(tmp_path / "run", base, **{"evaluate.holdout": 0})
    list(islice(run.records(), 7))
    shutil.copytree(tmp_path / "run", tmp_path / "killed")
    run.close()
    computed: list[int] = []
    of = "steerzo_edge.training.gradients.ExactGradients._computed"
    monkeypatch.setattr(of, _noting(computed))
    opened(tmp_path / "killed", base, **{"evaluate.holdout": 0}).close()
    assert computed == [4, 5, 6]  # the snapshot is after step 4
    computed.clear()
    opened(tmp_path / "run", base, **{"evaluate.holdout": 0}).close()
    assert computed == []  # it was closed, which saved its last step


def _noting(computed: list[int]) -> object:
    plain = ExactGradients._computed

    def noted(self: ExactGradients, step: int) -> StepGradient:
        computed.append(step)
        return plain(self, step)

    return noted


def test_a_paused_run_that_was_finished_goes_on_from_its_last_step(
    tiny: Loader, tmp_path: Path, expected: Result
) -> None:
    """`finish` puts the best version into the parameters; that is not what the snapshot may hold."""
    base = tiny("nf4", torch.bfloat16)
    run = opened(tmp_path / "paused", base)
    list(islice(run.records(), 8))
    run.finish()
    run.close()
    assert finished(tmp_path / "paused", base).sha256 == expected.sha256


def test_a_run_that_fails_in_the_middle_of_a_step_keeps_no_half_step(
    tiny: Loader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected: Result
) -> None:
    base = tiny("nf4", torch.bfloat16)
    run = opened(tmp_path / "broken", base)
    records = run.records()
    list(islice(records, 8))
    rule = run._parts.rule

    def half(parameters: torch.Tensor, gradient: object, learning_rate: float) -> None:
        parameters.add_(1)
        raise RuntimeError("broken on purpose")

    monkeypatch.setattr(rule, "step", half)
    with pytest.raises(RuntimeError, match="on purpose"):
        list(records)
    run.close()
    assert finished(tmp_path / "broken", base).sha256 == expected.sha256


class Wild:
    """A watcher that goes back once, as if the run had diverged."""

    def __init__(self, back_to: int) -> None:
        self.back_to = back_to

    def rescue(self, *arguments: object) -> WatchRecord:
        raise AssertionError("losses are numbers here")

    def judge(self, evaluations: list[EvalRecord], verdicts: list[WatchRecord], share: float) -> WatchRecord | None:
        if evaluations[-1].step != 9 or verdicts:
            return None
        return WatchRecord(9, "diverged", "as if", 0.5, self.back_to)


@pytest.mark.parametrize("back_to", [0, 3, 6])
@pytest.mark.parametrize(("stop", "lost"), [(13, "nothing"), (14, "both"), (15, "both")])
def test_a_run_that_was_taken_back_can_be_stopped_anywhere(
    tiny: Loader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, back_to: int, stop: int, lost: str
) -> None:
    monkeypatch.setattr(WatchConfig, "build", lambda self, by_score: Wild(back_to))
    base = tiny("none", torch.float32)
    whole = finished(tmp_path / "whole", base, **{"evaluate.keep": "last"})
    run = opened(tmp_path / "cut", base, **{"evaluate.keep": "last"})
    list(islice(run.records(), stop))
    run.close()
    for name in ("snapshot.safetensors", "best.safetensors"):
        if lost == "both":
            (tmp_path / "cut" / name).unlink(missing_ok=True)
    assert finished(tmp_path / "cut", base, **{"evaluate.keep": "last"}).sha256 == whole.sha256
    monkeypatch.setattr(WatchConfig, "build", lambda self, by_score: None)
    assert finished(tmp_path / "calm", base, **{"evaluate.keep": "last"}).sha256 != whole.sha256


def test_another_result_of_a_step_that_is_computed_again_is_told(
    tiny: Loader, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    base = tiny("none", torch.float32)
    run = opened(tmp_path / "run", base, **{"evaluate.holdout": 0})
    list(islice(run.records(), 7))
    shutil.copytree(tmp_path / "run", tmp_path / "killed")
    run.close()
    with caplog.at_level(logging.WARNING):
        opened(tmp_path / "killed", base, **{"evaluate.holdout": 0}).close()
    assert "rounds differently" not in caplog.text
    layer = base.bank.layers["model.layers.2.mlp.down_proj"].base
    before = layer.weight.data.clone()  # type: ignore[operator]
    try:
        layer.weight.data.add_(1e-4)  # type: ignore[operator]
        with caplog.at_level(logging.WARNING):
            opened(tmp_path / "killed", base, **{"evaluate.holdout": 0}).close()
    finally:
        layer.weight.data.copy_(before)  # type: ignore[operator]
    assert caplog.text.count("rounds differently") == 1
