"""Recorded series, thinned out: the sums are those of all steps."""

from pathlib import Path

import pytest

from server.services.series import series, thinned
from server.store.database import Database
from server.store.jobs import JobTable
from steerzo_edge.records import EvalRecord, StepRecord, TuneRecord


def record(step: int) -> StepRecord:
    dropped, rejected = step % 2, int(step % 5 == 0)
    return StepRecord(step, 1.0, 0.1, 0.01, 0.1, 4 * (step + 1), 8, 0.5, dropped, rejected=rejected)


@pytest.fixture
def job_table(tmp_path: Path) -> JobTable:
    job_table = JobTable(Database(tmp_path / "jobs.sqlite"))
    job_table.add("job_1", "one", {"steps": 101})
    job_table.events.add_records("job_1", [TuneRecord(0, 0.1, 0.01, None, 8, 16, 2.0, "found")])
    job_table.events.add_records("job_1", [record(step) for step in range(101)])
    job_table.events.add_records("job_1", [EvalRecord(101, 0.5, None, 4, True)])
    job_table.events.add_log("job_1", "a sentence")
    return job_table


@pytest.mark.parametrize("points", [None, 2, 7, 100, 101, 5000])
def test_sums_do_not_depend_on_how_many_points_are_shown(job_table: JobTable, points: int | None) -> None:
    found = series(job_table, "job_1", points)
    steps = found["steps"]
    assert len(steps) == min(points or 101, 101)
    assert (steps[0]["step"], steps[-1]["step"]) == (0, 100)
    for one in steps:
        done = range(one["step"] + 1)
        assert one["elapsed"] == pytest.approx(2.0 + 0.5 * len(done))
        assert one["lost"] == sum(step % 2 + (step % 5 == 0) for step in done)
    assert len(found["evals"]) == 1


def test_the_log_lists_events_in_order(job_table: JobTable) -> None:
    found = series(job_table, "job_1", 2)
    assert [line["kind"] for line in found["log"]] == ["state", "tune", "log"]
    assert [line["at"] for line in found["log"]] == sorted(line["at"] for line in found["log"])
    assert found["log"][2]["message"] == "a sentence"
    assert [one["message"] for one in found["decisions"]] == ["found"]


def test_a_job_without_steps_has_an_empty_series(job_table: JobTable) -> None:
    job_table.add("job_2", "two", {"steps": 1})
    assert series(job_table, "job_2")["steps"] == []


def test_thinned_keeps_the_ends() -> None:
    assert [one["step"] for one in thinned([{"step": n} for n in range(10)], 4)] == [0, 3, 6, 9]
