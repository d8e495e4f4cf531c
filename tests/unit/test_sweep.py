"""`steerzo sweep`: several settings are checked, run one after the other, continued, and compared in one table."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from steerzo_edge.errors import ProfileError
from steerzo_edge.records import Record, StepRecord
from steerzo_edge.run import Run
from steerzo_edge.sweep.ceiling import records_within
from steerzo_edge.sweep.grid import combinations, crossed, parsed_values, settings_of_file
from steerzo_edge.sweep.local import LocalSweep
from steerzo_edge.sweep.outcomes import Outcome, cells_of, csv_of, table_of
from steerzo_edge.sweep.trials import Trial, differing, trials_of
from steerzo_edge.trackers.wandb import WandbConfig
from tests.conftest import Loader, labelled_rows
from tests.trackers.test_delivery import Notebook
from tests.unit.commands import steerzo
from tests.unit.runs import open_run, profile

SETS = ("steps=4", "evaluate.every=2", "batch.max_tokens=64", "subset.rank=2", "subset.last_layers=2")
RATES = "0.001,0.02"


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({**row, "note": "n"}) + "\n" for row in labelled_rows(20).rows()))
    return path


def arguments(rows: Path, out: Path, base: Path, *more: str, rates: str = RATES) -> list[Any]:
    sets = (*SETS, "method.pool=3", f"rule.learning_rate={rates}")
    words = [word for setting in sets for word in ("--set", setting)]
    return ["sweep", "--dataset", rows, "--out", out, "--base", base, *words, *more]


def test_values_are_combined() -> None:
    values = parsed_values(["method.pool=4, 8", "rule.learning_rate=0.5 * auto,0.1"])
    assert values == {"method.pool": [4, 8], "rule.learning_rate": ["0.5 * auto", 0.1]}
    made = combinations({"method": {"pool": [4, 8]}, "steps": [1]})
    assert made == [{"method.pool": 4, "steps": 1}, {"method.pool": 8, "steps": 1}]
    assert crossed(made, [{"seed": 1}, {"steps": 2}])[1] == {"method.pool": 4, "steps": 2}
    assert differing([{"a": 1, "b": 2}, {"a": 1, "b": 3}, {"a": 1}]) == ["b"]


@pytest.mark.parametrize(
    ("sets", "says"),
    [
        (["method.pool"], "is not key=value,value"),
        (["method.pool=4", "method.pool=8"], "a second time"),
        (["steps=[1"], "are not YAML"),
        (["method.poool=4,8"], "run 2 (method.poool=8)"),
        (["rule.learning_rate=-1,0.1"], "run 1 (rule.learning_rate=-1)"),
        (["steps=5,5"], "run 2 (steps=5) has the same settings as run 1"),
        (["model.quantization=nf4,int8"], "needs another base than run 1"),
        ([f"steps={','.join(map(str, range(1, 102)))}"], "these are 101 runs; a sweep has at most 100"),
        (["subset.kind=last-n-layers", "subset.layers=99"], "99"),
    ],
)
def test_nothing_starts_if_one_setting_cannot_be_used(
    rows: Path, tmp_path: Path, tiny_path: Path, sets: list[str], says: str
) -> None:
    words = ["--most-steps", "200", *(word for one in sets for word in ("--set", one))]
    done = steerzo("sweep", "--dataset", rows, "--out", tmp_path / "out", "--base", tiny_path, *words)
    assert done.exit_code == 2, done.output
    assert says in done.output
    assert not (tmp_path / "out").exists()


def test_a_file_is_a_grid_or_a_list(tmp_path: Path) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text("method: {pool: [4, 8]}\nsteps: [3]\n")
    assert settings_of_file(path) == combinations({"method.pool": [4, 8], "steps": [3]})
    path.write_text("- {method.kind: two-point}\n- method: {kind: all-losses, pool: 8}\n")
    assert settings_of_file(path) == [{"method.kind": "two-point"}, {"method.kind": "all-losses", "method.pool": 8}]
    for text in ("steps: 3\n", "7\n", "[]\n", "- 4\n"):
        path.write_text(text)
        with pytest.raises(ProfileError, match="list of"):
            settings_of_file(path)


def test_a_sweep_is_a_table_and_is_not_run_twice(rows: Path, tmp_path: Path, tiny_path: Path) -> None:
    out = tmp_path / "out"
    command = arguments(rows, out, tiny_path)
    plan = steerzo(*command, "--plan")
    assert plan.output.startswith("rows.jsonl: ignored: note (20 rows)\n2 runs, about "), plan.output
    assert not out.exists()
    done = steerzo(*command, "--csv", tmp_path / "table.csv")
    assert done.exit_code == 0, done.output
    assert "run 2 of 2: " in done.output
    table = list(csv.DictReader((tmp_path / "table.csv").read_text().splitlines()))
    assert (tmp_path / "table.csv").read_text() == (out / "table.csv").read_text()
    assert {row["rule.learning_rate"] for row in table} == {"0.001", "0.02"}
    assert [row["state"] for row in table] == ["succeeded"] * 2
    assert [float(row["accuracy"]) for row in table] == sorted((float(r["accuracy"]) for r in table), reverse=True)
    assert all(int(row["forwards"]) > 0 and int(row["peak_bytes"]) > 1 << 20 for row in table)
    assert f"adapter {table[0]['adapter']}" in done.output
    assert Path(table[0]["adapter"], "adapter_model.safetensors").is_file()
    # A longer sweep in the same directory runs what is new, and what was interrupted.
    interrupted = out / table[1]["run"]
    (interrupted / "outcome.json").unlink()
    journal = interrupted / "journal"
    journal.write_text("".join(journal.read_text().splitlines(keepends=True)[:4]))
    again = steerzo(*arguments(rows, out, tiny_path, "--json", rates=f"{RATES},0.01"))
    assert again.exit_code == 0, again.output
    events = [json.loads(line) for line in again.output.splitlines()]
    assert {one["run"] for one in events if one.get("event") == "run"} == {
        one["run"] for one in events[-1]["result"]["runs"]
    } - {table[0]["run"]}
    first = next(one["step"] for one in events if one.get("event") == "step")
    assert first > 0
    found = {run["run"]: run for run in events[-1]["result"]["runs"]}
    assert found[table[1]["run"]]["loss"] == float(table[1]["training_loss"])


def test_runs_of_other_rows_are_not_mixed_in(rows: Path, tmp_path: Path, tiny_path: Path) -> None:
    command = arguments(rows, tmp_path / "out", tiny_path, "--most-steps", "1")
    assert steerzo(*command).exit_code == 0
    for more in (("--seed", "1"), ("--most-steps", "2"), ("--most-seconds", "5")):
        done = steerzo(*command, *more)
        assert done.exit_code == 1
        assert "holds a run with other rows, another profile, base, seed or ceiling" in done.output


def test_a_run_that_fails_does_not_end_the_sweep(rows: Path, tmp_path: Path, tiny_path: Path) -> None:
    out = tmp_path / "out"
    planned = steerzo(*arguments(rows, out, tiny_path, "--plan", "--json")).output.splitlines()[-1]
    first = json.loads(planned)["runs"][0]["run"]
    (out / first).mkdir(parents=True)
    (out / first / "journal").write_text("not a journal\n")
    done = steerzo(*arguments(rows, out, tiny_path, "--json"))
    result = json.loads(done.output.splitlines()[-1])["result"]
    assert [run["state"] for run in result["runs"]] == ["succeeded", "failed"]
    assert result["runs"][1]["run"] == first
    assert result["runs"][1]["error"]


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("no"), MemoryError()])
def test_a_run_that_does_not_fit_the_memory_is_a_failed_one(tmp_path: Path, tiny: Loader, error: Exception) -> None:
    trials = trials_of(lambda changes: profile(**changes), [{"steps": 1}, {"steps": 2}])
    sweep = LocalSweep(tmp_path, tiny("none"), trials, labelled_rows(), None, 1)

    def show(trial: Trial, run: Run, records: Iterator[Record]) -> None:
        for _ in records:
            if trial.number == 1:
                raise error

    *_, found = sweep.run(show)
    assert [one.state for one in found] == ["failed", "succeeded"]
    assert "memory does not suffice" in (found[0].error or "")


def test_runs_are_sent_to_their_trackers(tmp_path: Path, tiny: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Notebook, "opened", [])
    monkeypatch.setattr(WandbConfig, "check_installed", lambda self: None)
    monkeypatch.setattr(WandbConfig, "open", lambda self, run: Notebook(run, None, None))
    monkeypatch.setattr("steerzo_edge.trackers.delivery.EVERY_S", 0.02)
    trackers = {"trackers": [{"kind": "wandb"}]}

    def sweep(**more: object) -> LocalSweep:
        trials = trials_of(lambda changes: profile(**changes, **more), [{"steps": 2}])
        return LocalSweep(tmp_path, tiny("none"), trials, labelled_rows(), None, 1)

    def show(trial: Trial, run: Run, records: Iterator[Record]) -> None:
        assert list(records)

    assert [one[0].state for one in sweep(**trackers).run(show)] == ["succeeded"]
    (notebook,) = Notebook.opened
    assert notebook.ended is not None
    assert notebook.ended[0] == "succeeded"
    assert [point.step for point in notebook.points if "train/loss" in point.numbers] == [0, 1]
    # Without its trackers it is the same run.
    assert sweep().known()[0].state == "succeeded"


def test_a_ceiling_in_seconds_ends_with_an_evaluation(tmp_path: Path, tiny: Loader) -> None:
    run = open_run(tmp_path / "run", tiny("none"), steps=1000)
    records = list(records_within(run, 1e-9))
    run.close()
    assert [record.step for record in records if isinstance(record, StepRecord)] == [0]
    assert (records[-1].kind, records[-1].step) == ("eval", 1)
    # After an interruption, what was spent before counts.
    again = Run(tmp_path / "run", tiny("none"), run.profile, labelled_rows(), seed=1, snapshot_every=4)
    assert list(records_within(again, 1e-9)) == []
    again.close()


def outcome(run: str, state: str = "succeeded", **more: Any) -> Outcome:
    return Outcome(run, {"lr": run}, state, 4, 4, **more)


def test_the_table_is_sorted_by_what_evaluations_are_compared_by() -> None:
    def judged(f1: float, accuracy: float, loss: float) -> dict[str, Any]:
        return {"loss": loss, "accuracy": accuracy, "metrics": {"accuracy": accuracy, "f1": f1}, "score": f1}

    table = table_of(
        [
            outcome("waits", "waiting"),
            outcome("worse", evaluation=judged(0.25, 0.9, 1.0), loss=1.0, adapter="w"),
            outcome("broke", "failed", evaluation=judged(0.99, 0.9, 1.0), error="it broke"),
            outcome("best", evaluation=judged(0.75, 0.1, 3.0), loss=3.0, adapter="b", peak_bytes=3 << 20),
            outcome("tied", evaluation=judged(0.75, 0.1, 2.0), loss=9.0),
        ]
    )
    assert table["metric"] == "f1"
    assert [run["run"] for run in table["runs"]][:3] == ["tied", "best", "worse"]
    assert {run["run"] for run in table["runs"][3:]} == {"broke", "waits"}
    assert table["best"]["run"] == "best"
    heads, cells = cells_of(table)
    assert heads == ["run", "lr", "training loss", "f1", "forwards", "seconds", "peak MiB", "state"]
    assert cells[1] == ["best", "best", "3", "0.75", "0", "0.0", "3", "succeeded"]
    assert csv_of(table).splitlines()[0].startswith("run,lr,training_loss,f1,validation_loss,")


def test_without_a_metric_the_lower_loss_is_better() -> None:
    runs = [outcome(name, evaluation={"loss": loss}, loss=0.0) for name, loss in (("a", 2.0), ("b", 1.0))]
    table = table_of([*runs, outcome("c", loss=0.5)])
    assert table["metric"] == "validation_loss"
    assert [run["run"] for run in table["runs"]] == ["b", "a", "c"]
