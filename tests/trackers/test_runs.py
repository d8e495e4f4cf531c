"""Runs with trackers: of the command line, and of a server's jobs."""

import json
from pathlib import Path

import pytest

from server.logs import JsonLines, TextLines
from steerzo_edge.run import Run
from steerzo_edge.settings.profile import resolve
from steerzo_edge.trackers.tracker import TrackedRun
from steerzo_edge.trackers.wandb import WandbConfig
from tests.conftest import Loader, labelled_rows
from tests.server.conftest import PROFILE
from tests.trackers.test_delivery import Notebook
from tests.unit.commands import steerzo, train_arguments
from tests.unit.runner_box import STEPS, Box, Clock

OFFLINE = 'trackers=[{"kind": "wandb", "mode": "offline"}]'


@pytest.fixture
def notebooks(monkeypatch: pytest.MonkeyPatch) -> list[Notebook]:
    """Those opened instead of a client."""
    opened: list[Notebook] = []
    monkeypatch.setattr(Notebook, "opened", opened)
    monkeypatch.setattr(WandbConfig, "open", lambda self, run: Notebook(run, None, None))
    monkeypatch.setattr("steerzo_edge.trackers.delivery.EVERY_S", 0.02)
    return opened


def rows_file(path: Path) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in labelled_rows(30).rows()))
    return path


def test_a_client_that_is_not_installed_is_refused_before_the_run(tmp_path: Path, tiny_path: Path) -> None:
    arguments = train_arguments(rows_file(tmp_path / "rows.jsonl"), tmp_path / "run", tiny_path, OFFLINE)
    refused = steerzo(*arguments)
    assert refused.exit_code == 1
    assert 'pip install "steerzo-edge[wandb]"' in refused.output
    assert not (tmp_path / "run").exists()


def test_train_sends_its_steps_and_goes_on_in_the_same_run(
    tmp_path: Path, tiny_path: Path, notebooks: list[Notebook], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WandbConfig, "check_installed", lambda self: None)
    rows = rows_file(tmp_path / "rows.jsonl")
    # A tracker that is added later is sent the whole run, and is no reason to refuse it.
    assert steerzo(*train_arguments(rows, tmp_path / "run", tiny_path)).exit_code == 0
    again = steerzo(*train_arguments(rows, tmp_path / "run", tiny_path, OFFLINE))
    assert again.exit_code == 0, again.output
    (notebook,) = notebooks
    steps = [point.step for point in notebook.points if "train/loss" in point.numbers]
    assert steps == list(range(8))
    assert notebook.run.name == "run"
    assert notebook.run.parameters["method.kind"]
    assert notebook.ended is not None
    assert notebook.ended[0] == "succeeded"
    assert "eval/loss" in notebook.ended[1]
    assert steerzo(*train_arguments(rows, tmp_path / "run", tiny_path, OFFLINE)).exit_code == 0
    assert notebooks[1].run.known_as == notebook.known_as
    assert notebooks[1].points == []


def test_a_job_is_tracked_through_pauses(tmp_path: Path, tiny: Loader, notebooks: list[Notebook]) -> None:
    box = Box(tmp_path / "data", tiny("nf4"), Clock())
    job = box.post(trackers=[{"kind": "wandb"}])
    time_slices = box.time_slices()
    for _ in range(6):
        next(time_slices)
    box.runner.pause(job)
    list(time_slices)
    assert box.job_table.get(job.id).state == "paused"
    box.runner.resume(job)
    box.work()
    box.runner.trackers.close(10)
    assert box.job_table.get(job.id).state == "succeeded"
    points = [point for notebook in notebooks for point in notebook.points]
    assert [point.step for point in points if "train/loss" in point.numbers] == list(range(STEPS))
    assert [notebook.ended and notebook.ended[0] for notebook in notebooks] == ["paused", "succeeded"]
    assert len({notebook.known_as for notebook in notebooks}) == 1


def test_a_tracker_that_cannot_be_opened_is_an_event_of_the_job_and_no_more(
    tmp_path: Path, tiny: Loader, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(config: WandbConfig, run: TrackedRun) -> Notebook:
        raise ConnectionError("http://user:password@tracker/")

    monkeypatch.setattr(WandbConfig, "open", refuse)
    box = Box(tmp_path / "data", tiny("nf4"), Clock())
    job = box.post(trackers=[{"kind": "wandb"}])
    box.work()
    box.runner.trackers.close(10)
    assert box.job_table.get(job.id).state == "succeeded"
    told = [event.data["message"] for event in box.job_table.events.read(job.id, kinds=("log",), limit=-1)]
    assert [message for message in told if "wandb" in message] == [
        "tracker wandb is left out from here on; the server's log says why"
    ]
    assert not [message for message in told if "password" in message]
    (record,) = [record for record in caplog.records if "left out" in record.getMessage()]
    for lines in (TextLines, JsonLines):
        assert "ConnectionError" in lines().format(record)
        assert "password" not in lines().format(record)
        assert "http://user:password@tracker/" in lines(messages=True).format(record)


def test_the_bits_of_a_run_do_not_depend_on_its_trackers(
    tmp_path: Path, tiny: Loader, notebooks: list[Notebook]
) -> None:
    headers = []
    for name, trackers in (("plain", []), ("tracked", [{"kind": "wandb"}])):
        profile = resolve(PROFILE, {"steps": 1, "trackers": trackers})
        run = Run(tmp_path / name, tiny("nf4"), profile, labelled_rows(20))
        run.close()
        headers.append((tmp_path / name / "journal").read_bytes())
    assert headers[0] == headers[1]
