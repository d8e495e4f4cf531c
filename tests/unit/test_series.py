"""Recorded series, thinned out: the sums are those of all steps."""

from pathlib import Path

import pytest

from server.services.series import series, thinned
from server.store.database import Database
from server.store.jobs import Store
from steerzo_edge.records import EvalRecord, StepRecord, TuneRecord


def record(step: int) -> StepRecord:
    dropped, rejected = step % 2, int(step % 5 == 0)
    return StepRecord(step, 1.0, 0.1, 0.01, 0.1, 4 * (step + 1), 8, 0.5, dropped, rejected=rejected)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(Database(tmp_path / "jobs.sqlite"))
    store.add_job("job_1", "one", {"steps": 101})
    store.add_records("job_1", [TuneRecord(0, 0.1, 0.01, None, 8, 16, 2.0, "found")])
    store.add_records("job_1", [record(step) for step in range(101)])
    store.add_records("job_1", [EvalRecord(101, 0.5, None, 4, True)])
    store.add_log("job_1", "a sentence")
    return store


@pytest.mark.parametrize("points", [None, 2, 7, 100, 101, 5000])
def test_sums_do_not_depend_on_how_many_points_are_shown(store: Store, points: int | None) -> None:
    found = series(store, "job_1", points)
    steps = found["steps"]
    assert len(steps) == min(points or 101, 101)
    assert (steps[0]["step"], steps[-1]["step"]) == (0, 100)
    for one in steps:
        done = range(one["step"] + 1)
        assert one["elapsed"] == pytest.approx(2.0 + 0.5 * len(done))
        assert one["lost"] == sum(step % 2 + (step % 5 == 0) for step in done)
    assert len(found["evals"]) == 1


def test_the_log_says_what_happened_in_its_order(store: Store) -> None:
    found = series(store, "job_1", 2)
    assert [line["kind"] for line in found["log"]] == ["state", "tune", "log"]
    assert [line["at"] for line in found["log"]] == sorted(line["at"] for line in found["log"])
    assert found["log"][2]["message"] == "a sentence"
    assert [one["message"] for one in found["decisions"]] == ["found"]


def test_a_job_without_steps_has_an_empty_series(store: Store) -> None:
    store.add_job("job_2", "two", {"steps": 1})
    assert series(store, "job_2")["steps"] == []


def test_thinned_keeps_the_ends() -> None:
    assert [one["step"] for one in thinned([{"step": n} for n in range(10)], 4)] == [0, 3, 6, 9]
