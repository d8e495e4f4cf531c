"""A tracker never stops or delays a run, and a resumed run sends what the tracker lacks; with made-up clients."""

import json
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest

from server.services.tracker_checks import check_trackers
from steerzo_edge.errors import ConflictError, ProfileError
from steerzo_edge.records import EvalRecord, Record, StepRecord, WatchRecord
from steerzo_edge.settings.profile import resolve
from steerzo_edge.trackers import delivery
from steerzo_edge.trackers.mlflow import MlflowConfig
from steerzo_edge.trackers.points import parameters_of, point_of
from steerzo_edge.trackers.tensorboard import TensorBoardConfig
from steerzo_edge.trackers.tracker import EndState, Point, TrackedRun, TrackerBase
from steerzo_edge.trackers.tracking import Tracking


class Notebook:
    """Keeps what it is given; may fail at a step, or wait for an event."""

    opened: ClassVar[list["Notebook"]] = []

    def __init__(self, run: TrackedRun, fails_at: int | None, until: threading.Event | None) -> None:
        self.run = run
        self.known_as = run.known_as or f"notebook {len(self.opened)}"
        self.points: list[Point] = []
        self.ended: tuple[str, dict[str, float]] | None = None
        self.closed = False
        self._fails_at, self._until = fails_at, until
        self.opened.append(self)

    def log(self, points: Sequence[Point]) -> None:
        if self._until is not None:
            self._until.wait(30)
        for point in points:
            if point.step == self._fails_at:
                raise ConnectionError("the network is down")
            self.points.append(point)

    def end(self, state: EndState, summary: Mapping[str, float]) -> None:
        self.ended = state, dict(summary)

    def close(self) -> None:
        self.closed = True


class NotebookConfig(TrackerBase):
    kind: Literal["notebook"] = "notebook"
    fails_at: int | None = None
    module: ClassVar[str] = "no_such_client"
    extra: ClassVar[str] = "notebook"
    until: ClassVar[threading.Event | None] = None

    def open(self, run: TrackedRun) -> Notebook:
        return Notebook(run, self.fails_at, self.until)


@pytest.fixture(autouse=True)
def _opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Notebook, "opened", [])
    monkeypatch.setattr(delivery, "EVERY_S", 0.02)


def step(index: int, loss: float | None = 1.0) -> StepRecord:
    return StepRecord(index, loss, 0.5, 0.01, 0.05, 4, 100, 0.25, 0)


def tracking_of(
    directory: Path, config: TrackerBase, told: list[str], records: Sequence[Record] = (), after: Any = None
) -> Tracking:
    return Tracking(
        [config],
        TrackedRun("run", directory, {}),
        recorded=lambda first, last: records[first:last],
        total=len(records),
        report=lambda kind, reason, message: told.append(": ".join(filter(None, (kind, reason, message)))),
        after=after,
    )


def noted(directory: Path) -> dict[str, Any]:
    (file,) = (directory / delivery.DIRECTORY).iterdir()
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def test_records_arrive_as_numbers_and_the_end_with_its_state(tmp_path: Path) -> None:
    told: list[str] = []
    tracking = tracking_of(tmp_path, NotebookConfig(), told)
    evaluation = EvalRecord(1, 0.5, None, 8, True, {"f1": 0.25})
    for record in (step(0), evaluation, step(1, None), WatchRecord(2, "plateau", "", 0.5)):
        tracking.add(record)
    tracking.close("succeeded", evaluation)
    tracking.close("failed")  # the first call counts
    tracking.join(10)
    (notebook,) = Notebook.opened
    assert [point.step for point in notebook.points] == [0, 1, 1, 2]
    assert notebook.points[0].numbers["train/loss"] == 1.0
    assert notebook.points[1].numbers == {"eval/loss": 0.5, "eval/f1": 0.25}
    assert "train/loss" not in notebook.points[2].numbers
    assert notebook.points[3].numbers == {"watch/rate_factor": 0.5, "watch/back_to": 2}
    assert notebook.ended == ("succeeded", {"eval/loss": 0.5, "eval/f1": 0.25})
    assert notebook.closed
    assert tracking.has_ended
    assert told == []
    assert noted(tmp_path) == {"known_as": "notebook 0", "sent": 4}


def test_a_client_that_fails_is_reported_once_and_left_out(tmp_path: Path) -> None:
    told: list[str] = []
    tracking = tracking_of(tmp_path, NotebookConfig(fails_at=2), told)
    for index in range(6):
        tracking.add(step(index))
    until = time.monotonic() + 10
    while not tracking.has_ended and time.monotonic() < until:
        time.sleep(0.005)
    tracking.add(step(6))
    tracking.close("succeeded")
    tracking.join(10)
    assert told == ["notebook: ConnectionError: the network is down"]
    (notebook,) = Notebook.opened
    assert notebook.ended is None
    assert notebook.closed


def test_a_client_that_blocks_delays_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    monkeypatch.setattr(NotebookConfig, "until", release)
    monkeypatch.setattr(delivery, "MOST_WAITING", 10)
    monkeypatch.setattr(delivery, "MOST_AT_ONCE", 2)
    told: list[str] = []
    tracking = tracking_of(tmp_path, NotebookConfig(), told)
    started = time.monotonic()
    for index in range(50):
        tracking.add(step(index))
    assert time.monotonic() - started < 5
    assert told == ["notebook: it is too slow: 10 records wait"]
    tracking.close("succeeded")
    tracking.join(0.05)
    release.set()
    tracking.join(10)
    assert len(told) == 1
    assert Notebook.opened[0].ended is None


def test_a_client_that_takes_too_long_at_the_end_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    monkeypatch.setattr(NotebookConfig, "until", release)
    told: list[str] = []
    tracking = tracking_of(tmp_path, NotebookConfig(), told)
    tracking.add(step(0))
    tracking.close("succeeded")
    tracking.join(0.05)
    assert told == ["notebook: it did not take everything in the time that a run waits for it at its end"]
    release.set()
    tracking.join(10)


def test_a_resumed_run_goes_on_where_the_tracker_is(tmp_path: Path) -> None:
    told: list[str] = []
    records: list[Record] = [step(0), step(1), EvalRecord(2, 1.0, None, 8, True), step(2), step(3)]
    before = tracking_of(tmp_path, NotebookConfig(), told)
    for record in records[:3]:
        before.add(record)
    before.close()
    after = tracking_of(tmp_path, NotebookConfig(), told, records, after=before)
    after.add(step(4))
    after.close("succeeded")
    after.join(10)
    first, second = Notebook.opened
    assert first.closed
    assert first.ended is None
    assert second.known_as == "notebook 0"
    # The evaluation is sent again: a tracker that drops a step drops all that it has of it.
    assert second.run.first_step == 2
    assert [point.step for point in second.points] == [2, 2, 3, 4]
    assert "eval/loss" in second.points[0].numbers
    assert noted(tmp_path)["sent"] == 6


def test_a_tracker_that_is_new_to_a_run_is_sent_all_of_it(tmp_path: Path) -> None:
    told: list[str] = []
    records = [step(index) for index in range(5)]
    tracking = tracking_of(tmp_path, NotebookConfig(), told, records)
    tracking.close("succeeded")
    tracking.join(10)
    assert [point.step for point in Notebook.opened[0].points] == [0, 1, 2, 3, 4]
    assert Notebook.opened[0].run.first_step is None
    # A shorter journal is that of another run in the same directory.
    tracking_of(tmp_path, NotebookConfig(), told, records[:2]).join(0.2)
    assert Notebook.opened[1].run.known_as is None


def test_a_missing_client_is_refused_with_the_command_that_installs_it() -> None:
    with pytest.raises(ConflictError, match="no_such_client") as raised:
        NotebookConfig().check_installed()
    assert raised.value.hint == 'pip install "steerzo-edge[notebook]"'


def test_a_job_over_http_chooses_no_place_and_no_kind_that_is_not_allowed() -> None:
    check_trackers([], [])
    with pytest.raises(ProfileError, match=r"trackers.0, field 'directory'"):
        check_trackers([TensorBoardConfig(directory=Path("/etc"))], ["tensorboard"])
    with pytest.raises(ProfileError, match="this server allows: tensorboard") as raised:
        check_trackers([MlflowConfig(uri="http://169.254.169.254/")], ["tensorboard"])
    assert [fault.field for fault in raised.value.faults] == ["kind", "uri"]
    with pytest.raises(ConflictError, match="no_such_client"):
        check_trackers([NotebookConfig()], ["notebook"])


def test_the_same_tracker_twice_is_refused() -> None:
    same = {"kind": "tensorboard", "directory": "a"}
    assert len(resolve({"trackers": [same, {**same, "directory": "b"}]}).trackers) == 2
    with pytest.raises(ProfileError, match="two trackers are the same: tensorboard"):
        resolve({"trackers": [same, same]})


def test_trackers_are_settings_of_a_profile_but_not_of_the_run() -> None:
    profile = resolve({}, {"trackers": [{"kind": "mlflow", "experiment": "x"}, {"kind": "tensorboard"}]})
    assert [tracker.kind for tracker in profile.trackers] == ["mlflow", "tensorboard"]
    assert profile.identity() == resolve({}).identity()
    with pytest.raises(ProfileError, match="experimnt"):
        resolve({}, {"trackers": [{"kind": "mlflow", "experimnt": "x"}]})
    assert parameters_of({"method": {"kind": "exact", "pool": 4}, "memory": None}, seed=3) == {
        "method.kind": "exact",
        "method.pool": "4",
        "memory": "null",
        "seed": "3",
    }
    assert point_of(step(3, float("nan"))).numbers.keys() >= {"train/slope", "train/forwards", "train/seconds"}
