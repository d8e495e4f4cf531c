"""The time that is left comes from the last steps, whatever the first ones and the search took."""

from typing import Any

import pytest

from steerzo_edge.cli import output
from steerzo_edge.cli.output import display
from steerzo_edge.training.pace import phase_of, seconds_left, steps_of_first_pass


def test_the_last_steps_decide() -> None:
    assert seconds_left([], 100) is None
    assert seconds_left([90.0], 10) == 900
    assert seconds_left([90.0] * 9 + [2.0] * 20, 10) == 20
    assert seconds_left([2.0] * 12 + [300.0] + [2.0] * 7, 10) == 20  # one step that other work held up


def test_phases() -> None:
    named = [
        phase_of(done, evaluates=evaluates, searches=searches, first_pass=5)
        for done, evaluates, searches in ((0, True, True), (0, False, True), (0, False, False), (4, False, False))
    ]
    assert (
        named
        == ["evaluating the base", "finding the probe radius and the learning rate"]
        + ["first pass over the data"] * 2
    )
    assert phase_of(5, evaluates=True, searches=True, first_pass=5) == "steps"
    assert steps_of_first_pass(33, 16, first_layer=4) == 3
    assert steps_of_first_pass(33, 16, first_layer=0) == 0


def step(index: int, seconds: float) -> dict[str, Any]:
    return {
        "step": index,
        "loss": 1.0,
        "slope": 0.5,
        "epsilon": 0.1,
        "forwards": index,
        "skipped": None,
        "seconds": seconds,
    }


@pytest.mark.parametrize("terminal", [False, True])
def test_the_display_shows_the_phase_and_the_time_left(
    terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(output, "PLAIN_SECONDS", 0.0)
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    monkeypatch.setenv("COLUMNS", "160")
    with display(400, as_json=False, done=0, first_pass=3, searches=True) as shown:
        shown.show("eval", {"step": 0, "accuracy": 0.5, "metrics": {}, "loss": 1.0})
        shown.show("tune", {"message": "probe radius 0.01"})
        for index in range(100):
            shown.show("step", step(index, 60.0 if index < 3 else 0.5))
    said = capsys.readouterr().out
    if terminal:
        assert "0.5 steps/s" not in said
        return
    lines = said.splitlines()
    assert lines[1:4:2] == ["finding the probe radius and the learning rate", "first pass over the data"]
    assert lines[4].endswith("0.0 steps/s, 6:39:00 left (first pass over the data)")
    assert lines[-1].endswith("2.0 steps/s, 2:30 left")
