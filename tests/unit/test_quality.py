"""The race of methods: its arithmetic on made-up runs, and a whole small one."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import learning, quality
from benchmarks.quality_report import report


def made_up(method: str, seed: int, losses: list[float | None], cost: int, **more: Any) -> dict[str, Any]:
    """A run of 100 forwards with evenly spaced losses."""
    steps = [round(100 / cost * index / (len(losses) - 1)) for index in range(len(losses))]
    curve = [[step, step * cost, loss, 0.5] for step, loss in zip(steps, losses, strict=True)]
    run = {"dataset": "d", "kind": "tuned", "method": method, "rate": 0.1, "budget": 100, "seed": seed}
    run |= {"curve": curve, "loss": losses[-1], "accuracy": 0.5 + seed / 10, "forwards": steps[-1] * cost}
    return run | {"test": {"accuracy": 0.25}} | more


def summary_of(runs: list[dict[str, Any]], tmp_path: Path) -> dict[str, dict[str, Any]]:
    (tmp_path / "quality").mkdir()
    (tmp_path / "quality" / "d.jsonl").write_text("".join(json.dumps(run) + "\n" for run in runs))
    report(tmp_path, "quick")
    body = json.loads((tmp_path / "quality.json").read_text())
    assert body["default"] == "quick"
    assert len(body["runs"]) == len(runs)
    assert (tmp_path / "quality_forwards.png").stat().st_size > 10_000
    return {row["method"]: row for row in body["summary"]}


def test_ratios_gaps_and_spreads(tmp_path: Path) -> None:
    runs = [made_up("two-point", seed, [2.0, 1.5, 0.9, 1.0 + seed / 10], 2) for seed in range(3)]
    runs += [made_up("quick", seed, [2.0, 1.1, 0.8, 0.7], 10) for seed in range(3)]
    runs += [made_up("slow", seed, [2.0, 1.9, 1.8, 1.7], 10) for seed in range(3)]
    runs += [made_up("quick", seed, [2.0, 1.0, 0.9, 0.735], 10, kind="auto", rate="auto") for seed in range(3)]
    runs.append(made_up("quick", 0, [2.0, 1.9, 1.9, 1.9], 10, rate=0.2))  # a rate that was only tried
    runs.append(made_up("quick", 1, [2.0, 1.9, 1.9, None], 10, rate=0.4))  # one that diverged
    found = summary_of(runs, tmp_path)
    assert found["two-point"]["loss"] == pytest.approx(1.1)
    assert found["two-point"]["loss_spread"] == pytest.approx([1.0, 1.2])
    assert found["two-point"]["accuracy"] == pytest.approx(0.6)
    # Its final median is 1.1, which it passed between a third and two thirds of the way.
    assert found["two-point"]["forwards_ratio_to_two_point"] == pytest.approx(0.56, abs=0.01)
    assert found["quick"]["forwards_ratio_to_two_point"] == pytest.approx(0.3, abs=0.01)
    assert found["quick"]["forwards_ratio_to_best"] == pytest.approx(0.567, abs=0.01)
    assert found["slow"]["forwards_ratio_to_two_point"] is None
    assert found["quick"]["auto_gap"] == pytest.approx(0.05)
    assert found["quick"]["rate"] == 0.1
    assert found["slow"]["auto_gap"] is None


def test_a_budget_is_compared_with_itself_and_a_diverged_seed_ends_early(tmp_path: Path) -> None:
    runs = [made_up("two-point", seed, [2.0, 1.5, 0.8, 1.0], 2) for seed in range(2)]
    short = made_up("two-point", 2, [2.0, 1.6, 0.5, None], 2)
    runs.append({key: value for key, value in short.items() if key != "test"})
    runs[-1]["curve"] = runs[-1]["curve"][:2]
    runs += [made_up("quick", seed, [2.0, 1.1, 0.8, 0.7], 10) for seed in range(2)]
    runs += [made_up("quick", seed, [2.0, 0.2, 0.2, 0.2], 10, budget=50) for seed in range(1)]
    found = summary_of(runs, tmp_path)
    assert found["quick"]["seeds"] == 2
    assert found["quick"]["budget"] == 100
    assert found["quick"]["loss"] == pytest.approx(0.7)
    assert found["two-point"]["loss_spread"] == [1.0, None]
    # The best all three have is 1.5, at the second point: a sixth of the way after the first third for "quick".
    assert found["quick"]["forwards_ratio_to_best"] == pytest.approx(0.5 / 0.9 * 0.3, abs=0.02)


@pytest.mark.long
def test_a_small_comparison_runs_and_is_not_run_twice(
    tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(learning, "TRAIN", 40)
    monkeypatch.setattr(learning, "VALIDATION", 10)
    monkeypatch.setattr(learning, "TEST", 10)
    monkeypatch.setattr(learning, "POINTS", 2)
    monkeypatch.setattr(quality, "SEEDS", (0,))
    monkeypatch.setattr(quality, "AUTO", (quality.DEFAULT,))
    monkeypatch.setattr(quality, "EXACT_RATES", (1e-3,))
    chosen = f"two-point,{quality.DEFAULT}"
    arguments = ["--datasets", "snips", "--methods", chosen, "--base", str(tiny_path)]
    arguments += ["--budget", "200", "--last-layers", "1", "--max-tokens", "40"]
    arguments += ["--equal-steps", "4", "--equal-steps-datasets", "snips"]
    monkeypatch.setattr(sys, "argv", ["quality", *arguments, "--out", str(tmp_path)])
    quality.main()
    lines = (tmp_path / "quality" / "snips.jsonl").read_text().splitlines()
    kinds = {json.loads(line)["kind"] for line in lines}
    assert kinds == {"guess-tuned", "tuned", "auto", "exact", "seconds", "guess-equal-steps", "equal-steps"}
    runs = [json.loads(line) for line in lines]
    for run in runs:
        if run["kind"] in ("tuned", "auto", "equal-steps"):
            assert run["forwards"] <= run["budget"]
            assert run["curve"][0][2] == runs[1]["curve"][0][2]  # the same untouched base
    auto = next(run for run in runs if run["kind"] == "auto")
    assert auto["found"]["learning_rate"] > 0
    for name in ("quality.json", "quality_forwards.png", "quality_seconds.png", "quality_equal_steps.png"):
        assert (tmp_path / name).exists()

    def fail(*arguments: Any) -> None:
        raise AssertionError("was run again")

    monkeypatch.setattr(quality, "learn", fail)
    monkeypatch.setattr(quality, "exact", fail)
    quality.main()
    assert (tmp_path / "quality" / "snips.jsonl").read_text().splitlines() == lines
