"""The curve of memory and time: what is measured, what is extrapolated, and what is left open."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from server.commands.app import app
from steerzo_edge.curve.measuring import NOT_ENDED, Findings, Pair, apart, measured_curve
from steerzo_edge.curve.model import Curve, Point, lowest, reach
from steerzo_edge.curve.picture import draw
from steerzo_edge.curve.process import Job
from steerzo_edge.curve.words import notes, seconds_in_words, title
from steerzo_edge.estimate import Way, anatomy, load_config, ways_to_run
from steerzo_edge.run_data import Data, rows_of_run
from steerzo_edge.settings.profile import Profile, resolve
from tests.conftest import Loader, labelled_rows

BODY = anatomy(load_config("bundled"))
POINTS = [Point(0, 2.0), Point(10, 1.0), Point(20, 0.5)]
SETTINGS = {
    "subset": {"kind": "lora", "rank": 2},
    "method": {"kind": "two-point", "epsilon": 0.01},
    "rule": {"kind": "sgd", "learning_rate": 0.01},
    "batch": {"examples": 4, "max_tokens": 64},
    "evaluate": {"every": 1000, "holdout": 0.3},
    "watch": {"enabled": False},
}


def test_a_loss_within_the_probe_is_measured_between_two_evaluations() -> None:
    assert reach(POINTS, 1.0).steps == 10
    found = reach(POINTS, 0.75)
    assert (found.steps, found.how) == (15, "measured")
    assert reach(POINTS, 3.0).steps == 0


def test_a_loss_beyond_the_probe_is_a_lower_bound_on_the_line_from_the_start() -> None:
    found = reach(POINTS, 0.2)
    assert found.steps == pytest.approx(20 * 1.8 / 1.5)
    assert found.how == "at-least"


@pytest.mark.parametrize(
    "points", [[], [Point(0, 2.0)], [Point(0, 2.0), Point(9, 1.99)], [Point(0, 2), Point(9, 3)]]
)
def test_without_progress_nothing_is_said(points: list[Point]) -> None:
    assert reach(points, 0.5) == replace(reach([], 0.5), steps=None, how="unknown")
    assert lowest([points]) is None


def test_the_loss_that_is_aimed_at_is_the_lowest_of_any_probe() -> None:
    assert lowest([POINTS, [Point(0, 2.0), Point(5, 0.4), Point(9, 0.9)]]) == 0.4


def _way(profile: Profile, size: int, fits: bool) -> Way:
    layers = 8 if profile.method.kind == "exact" else 0
    kept = "checkpointing" if layers else ""
    return Way(profile.method.kind, layers, str(profile.memory), size, 1.0, fits, kept)


def _ways(profile: Profile, fits: Callable[[Profile], bool] = lambda each: True) -> list[Pair]:
    sizes = {"lean": 500 << 20, "fast": 900 << 20}
    return [
        (_way(each, sizes[str(each.memory)], fits(each)), each)
        for each in ways_to_run(profile, BODY)
        if each.method.kind != "hybrid"
    ]


def _curve(ways: list[Pair], probe: Callable[[Job], Findings], **changes: Any) -> Curve:
    empty = Data(None, None)  # type: ignore[arg-type]  # the probe of the test looks at no rows
    given: dict[str, Any] = {
        "name": "tiny",
        "machine": "a machine",
        "limit": 1 << 30,
        "loss": None,
        "seconds": 100.0,
        "cache": None,
    }
    return measured_curve(ways, empty, **(given | changes), probe=probe)


def _found(job: Job) -> Findings:
    """Exact gradients reach 0.5 in 20 steps; the other method gets to 1.5 in 10."""
    exact = job.profile.method.kind == "exact"
    points = POINTS if exact else [Point(0, 2.0), Point(10, 1.5)]
    lean = job.profile.memory == "lean"
    return Findings(points if job.learns else [], [2.0, 4.0, 3.0] if lean else [1.0], None, 700 << 20)


def test_each_method_learns_once_with_its_faster_setting() -> None:
    jobs: list[Job] = []
    curve = _curve(_ways(resolve(SETTINGS)), lambda job: (jobs.append(job), _found(job))[1])
    assert [(job.profile.method.kind, job.profile.memory) for job in jobs if job.learns] == [
        ("two-point", "fast"),
        ("exact", "fast"),
    ]
    assert len(jobs) == 4
    assert curve.loss == 0.5
    assert not curve.chosen
    named = {(point.method, point.memory): point for point in curve.points}
    assert named["exact", "fast"].seconds == 20
    assert named["exact", "lean"].seconds == 60
    assert named["exact", "lean"].reach.how == "measured"
    assert named["two-point", "fast"].seconds == pytest.approx(30)
    assert seconds_in_words(named["two-point", "lean"]) == "at least 90 s"
    assert {point.bytes for point in curve.points} == {700 << 20}


def test_the_time_is_divided_and_what_is_left_over_goes_to_the_methods_that_learn() -> None:
    jobs: list[tuple[bool, float]] = []

    def probe(job: Job) -> Findings:
        jobs.append((job.learns, job.until - time.monotonic()))
        return _found(job)

    _curve(_ways(resolve(SETTINGS)), probe)
    assert [learns for learns, _ in jobs] == [False, False, True, True]
    assert [share for _, share in jobs] == pytest.approx([100 / 8, 100 / 7, 100 / 2, 100], abs=0.5)


def test_a_way_keeps_half_of_its_share_where_others_took_longer() -> None:
    shares: list[float] = []

    def probe(job: Job) -> Findings:
        shares.append(job.until - time.monotonic())
        time.sleep(0.2)
        return _found(job)

    _curve(_ways(resolve(SETTINGS)), probe, seconds=0.2)
    assert shares[1:] == pytest.approx([0.2 / 16, 0.2 * 3 / 16, 0.2 * 3 / 16], abs=0.01)


def test_a_way_that_does_not_fit_is_not_probed() -> None:
    jobs: list[Job] = []
    ways = _ways(resolve(SETTINGS), lambda each: not (each.method.kind == "exact" and each.memory == "fast"))
    curve = _curve(ways, lambda job: (jobs.append(job), _found(job))[1])
    assert [job.learns for job in jobs if job.profile.method.kind == "exact"] == [True]
    last = curve.points[-1]
    assert (last.fits, last.peak, last.bytes, last.step_s) == (False, None, 900 << 20, None)
    assert seconds_in_words(last) == "does not fit"
    assert last.seconds is None


def test_a_search_counts_and_is_scaled_where_it_was_not_made() -> None:
    searching = resolve(SETTINGS | {"method": {"kind": "two-point"}, "rule": {"kind": "sgd"}})

    def probe(job: Job) -> Findings:
        found = _found(job)
        if job.learns and job.profile.method.kind == "two-point":
            assert job.profile.method.epsilon == "auto"
            found.searched = 8.0
        else:
            assert job.profile.method.epsilon != "auto"
        return found

    named = {(point.method, point.memory): point for point in _curve(_ways(searching), probe).points}
    assert named["two-point", "fast"].search_s == 8
    assert named["two-point", "lean"].search_s == 24
    assert named["two-point", "lean"].seconds == pytest.approx(24 + 90)
    assert named["exact", "fast"].search_s == 0


def test_a_search_that_was_not_finished_leaves_the_seconds_open() -> None:
    searching = resolve(SETTINGS | {"method": {"kind": "two-point"}, "rule": {"kind": "sgd"}})
    ways = _ways(searching)
    curve = _curve(ways, lambda job: Findings([Point(0, 2.0)] if job.learns else [], [1.0], None, 1))
    assert curve.loss is None
    assert curve.points[0].seconds is None
    assert seconds_in_words(curve.points[0]) == "the search for settings was not finished"
    assert notes(curve)[0].startswith("No way lowered the loss")


@pytest.fixture
def data(tiny: Loader) -> tuple[Profile, Data]:
    base = tiny()
    profile = resolve(SETTINGS | {"model": {"quantization": "none", "compute_dtype": "float32"}})
    _, _, found = rows_of_run(base.tokenizer, base.context_length, profile, labelled_rows(40), None, 0)
    return profile, found


@pytest.mark.long
def test_a_process_takes_real_steps(data: tuple[Profile, Data], tiny_path: Path) -> None:
    profile, rows = data
    changes = {"model.id": str(tiny_path), "steps": 12}
    exact = ways_to_run(resolve(profile.model_dump(mode="json"), changes), BODY)[-1]
    assert exact.method.kind == "exact"
    found = apart(Job(exact, rows, None, True, time.monotonic() + 100))
    assert found.failure is None
    assert found.points[0].steps == 0
    assert found.points[-1].steps == 12
    assert len(found.steps) == 11
    assert found.points[-1].loss < found.points[0].loss
    assert found.peak is not None
    assert 100 << 20 < found.peak < 4 << 30
    timed = apart(Job(exact, rows, None, False, time.monotonic() + 100))
    assert (len(timed.points), len(timed.steps)) == (0, 6)


def test_a_process_that_takes_too_long_is_ended(
    data: tuple[Profile, Data], tiny_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("steerzo_edge.curve.measuring.LEAST_GRACE_S", 0.0)
    profile = resolve(data[0].model_dump(mode="json"), {"model.id": str(tiny_path)})
    began = time.monotonic()
    assert apart(Job(profile, data[1], None, True, began)).failure == NOT_ENDED
    assert time.monotonic() - began < 5


def test_a_process_says_why_it_could_not_begin(data: tuple[Profile, Data], tmp_path: Path) -> None:
    profile = resolve(data[0].model_dump(mode="json"), {"model.id": str(tmp_path / "nothing")})
    found = apart(Job(profile, data[1], None, True, time.monotonic() + 30))
    assert found.failure is not None
    assert "nothing" in found.failure


def _steerzo(rows: Path, base: Path, *arguments: object) -> Result:
    sets = ["--set", "batch.examples=4", "--set", "evaluate.holdout=0.3", "--set", "method.epsilon=0.01"]
    sets += ["--set", "rule.learning_rate=0.01", "--set", "batch.max_tokens=64", "--set", "steps=8"]
    words = ["estimate", "--dataset", rows, "--base", base, "--seconds", "200", *sets, *arguments]
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in labelled_rows(40).rows()))
    return path


@pytest.mark.long
def test_the_command_measures_every_way_and_draws_them(rows: Path, tiny_path: Path, tmp_path: Path) -> None:
    picture = tmp_path / "curve.svg"
    done = _steerzo(rows, tiny_path, "--picture", picture, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    ways = [(point["method"], point["memory"]) for point in found["points"]]
    assert ways == [(kind, memory) for kind in ("all-losses", "hybrid", "exact") for memory in ("lean", "fast")]
    for point in found["points"]:
        assert point["fits"]
        assert point["failure"] is None
        assert point["step_s"] > 0
        assert point["peak"] > 100 << 20
    assert min(point["learned"][-1]["loss"] for point in found["points"]) >= found["loss"]
    drawn = picture.read_text()
    kept = found["points"][4]["kept"]
    assert kept
    assert f"exact gradients, lean ({kept})" in drawn
    assert "lowest that a probe reached" in drawn


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--picture", "curve.bmp"], "must end with one of .svg, .png, .pdf"),
        (["--picture", "nowhere/curve.svg"], "there is no directory 'nowhere'"),
        (["--curve", "--set", "evaluate.holdout=0"], "needs rows to evaluate on"),
    ],
)
def test_what_cannot_be_done_is_refused_before_the_probe(
    rows: Path, tiny_path: Path, arguments: list[str], message: str
) -> None:
    done = _steerzo(rows, tiny_path, *arguments)
    assert done.exit_code == 2
    assert message in done.output


def test_a_picture_without_matplotlib_is_refused(
    rows: Path, tiny_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("steerzo_edge.curve.picture.find_spec", lambda name: None)
    done = _steerzo(rows, tiny_path, "--picture", "curve.svg")
    assert done.exit_code == 2
    assert "pip install 'steerzo-edge[plot]'" in done.output


def test_a_curve_needs_rows(tiny_path: Path) -> None:
    done = CliRunner().invoke(app, ["estimate", "--base", str(tiny_path), "--curve"])
    assert done.exit_code == 2
    assert "Give a --dataset" in done.output


def test_the_picture_names_every_way(tmp_path: Path) -> None:
    ways = _ways(resolve(SETTINGS), lambda each: each.memory == "lean" or each.method.kind != "exact")
    curve = _curve(ways, _found)
    draw(curve, tmp_path / "curve.svg")
    drawn = (tmp_path / "curve.svg").read_text()
    for point in curve.points:
        assert title(point) in drawn
    assert "does not fit" in drawn
    assert "(estimated)" in drawn
