"""The table of a job's states, every pair of it, and what the table does along the way."""

from itertools import product
from pathlib import Path
from typing import get_args

import pytest

from server.store.database import STEPS, Database
from server.store.jobs import JobTable
from server.store.rows import JobRow
from server.store.states import FINAL, NEXT, STATE_REQUESTED, State
from steerzo_edge.errors import BusyError, ConflictError, NotFoundError
from steerzo_edge.records import EvalRecord
from tests.unit.runner_box import Clock

STATES: tuple[State, ...] = get_args(State)


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(tmp_path / "db.sqlite")


@pytest.fixture
def job_table(database: Database, clock: Clock) -> JobTable:
    return JobTable(database, now=clock)


def put(database: Database, job: JobRow, state: State) -> None:
    """A job in any state, past the table."""
    with database.writing() as db:
        db.execute("UPDATE jobs SET state = ? WHERE id = ?", (state, job.id))


def states_of(job_table: JobTable, job: str) -> list[str]:
    return [event.data["state"] for event in job_table.events.read(job, kinds=("state",))]


def test_every_state_is_in_the_table_and_reached() -> None:
    assert set(NEXT) == set(STATES)
    assert {state for following in NEXT.values() for state in following} == set(STATES)
    assert not (FINAL & NEXT["queued"]) - {"cancelled", "failed"}


@pytest.mark.parametrize(("old", "new"), list(product(STATES, STATES)))
def test_every_change_of_state(database: Database, job_table: JobTable, old: State, new: State) -> None:
    job = job_table.add("job_1", None, {})
    put(database, job, old)
    if new in NEXT[old]:
        assert job_table.change_state(job.id, new).state == new
        assert states_of(job_table, job.id) == ["queued", new]
        assert (job_table.get(job.id).ended is not None) == (new in FINAL)
    else:
        with pytest.raises(ConflictError, match=f"{old} and cannot become {new}"):
            job_table.change_state(job.id, new)
        assert job_table.get(job.id).state == old
        assert states_of(job_table, job.id) == ["queued"]


@pytest.mark.parametrize(("state", "requested"), list(product(STATES, STATE_REQUESTED)))
def test_requests_are_carried_out_noted_or_refused_by_state(
    database: Database, job_table: JobTable, state: State, requested: str
) -> None:
    job = job_table.add("job_1", None, {})
    put(database, job, state)
    goal = STATE_REQUESTED[requested]  # type: ignore[index]
    if state == "running":
        asked = job_table.request(job.id, requested)  # type: ignore[arg-type]
        assert (asked.state, asked.requested) == ("running", requested)
        assert job_table.requested(job.id) == requested
        assert job_table.change_state(job.id, goal).requested is None
    elif goal in NEXT[state]:
        assert job_table.request(job.id, requested).state == goal  # type: ignore[arg-type]
    else:
        with pytest.raises(ConflictError):
            job_table.request(job.id, requested)  # type: ignore[arg-type]


@pytest.mark.parametrize("state", STATES)
def test_resume(database: Database, job_table: JobTable, state: State) -> None:
    job = job_table.add("job_1", None, {})
    put(database, job, state)
    if state in ("paused", "failed", "interrupted"):
        assert job_table.resume(job.id).state == "queued"
    else:
        with pytest.raises(ConflictError):
            job_table.resume(job.id)


def test_a_pause_can_be_taken_back_and_a_cancel_cannot(job_table: JobTable) -> None:
    job = job_table.add("job_1", None, {})
    job_table.change_state(job.id, "running")
    job_table.request(job.id, "pause")
    assert job_table.resume(job.id).requested is None
    job_table.request(job.id, "pause")
    job_table.request(job.id, "cancel")
    with pytest.raises(ConflictError, match="being cancelled"):
        job_table.request(job.id, "pause")
    with pytest.raises(ConflictError):
        job_table.resume(job.id)


def test_a_request_survives_a_crash(tmp_path: Path, job_table: JobTable) -> None:
    job = job_table.add("job_1", None, {})
    job_table.change_state(job.id, "running")
    job_table.request(job.id, "cancel")
    again = JobTable(Database(tmp_path / "db.sqlite"))
    again.change_state(job.id, "interrupted")
    assert again.change_state(job.id, "queued").requested == "cancel"


def test_the_queue_goes_by_request_then_priority_then_age(job_table: JobTable, clock: Clock) -> None:
    for number, priority in enumerate([0, 5, 5, -3], 1):
        job_table.add(f"job_{number}", None, {}, priority=priority)
    order = []
    while (job := job_table.next_job()) is not None:
        order.append(job.number)
        assert job_table.ahead_of(job) == 0
        job_table.change_state(job.id, "cancelled")
    assert order == [2, 3, 1, 4]


def test_a_job_that_tries_again_waits_its_time(job_table: JobTable, clock: Clock) -> None:
    job_table.add("job_1", None, {})
    job_table.change_state("job_1", "running")
    waiting = job_table.try_again("job_1", {"code": "storage-failed"}, 30)
    assert states_of(job_table, "job_1") == ["queued", "running", "interrupted", "queued"]
    assert (waiting.attempts, waiting.not_before) == (1, 1030)
    assert job_table.next_job() is None
    clock.now += 31
    assert job_table.next_job() is not None
    job_table.change_state("job_1", "running")
    job_table.clear_attempts("job_1")
    assert job_table.get("job_1").attempts == 0


def test_the_number_of_queued_jobs_is_bounded(job_table: JobTable) -> None:
    job_table.add("job_1", None, {}, max_waiting=1)
    with pytest.raises(BusyError):
        job_table.add("job_2", None, {}, max_waiting=1)
    job_table.change_state("job_1", "running")
    job_table.add("job_2", None, {}, max_waiting=1)


def test_pages_are_newest_first_without_gaps(job_table: JobTable) -> None:
    for number in range(1, 8):
        job_table.add(f"job_{number}", None, {})
    job_table.change_state("job_3", "cancelled")
    first = job_table.page(before=None, limit=3)
    second = job_table.page(before=first[-1].number, limit=10)
    assert [job.number for job in first + second] == [7, 6, 5, 4, 3, 2, 1]
    assert [job.number for job in job_table.page(before=None, limit=10, state="cancelled")] == [3]


@pytest.mark.parametrize("state", STATES)
def test_delete(database: Database, job_table: JobTable, state: State) -> None:
    job = job_table.add("job_1", None, {}, "key")
    job_table.events.add_records(job.id, [EvalRecord(0, 1.0, None, 2, True)])
    put(database, job, state)
    if state in ("running", "interrupted"):
        with pytest.raises(ConflictError, match=state):
            job_table.delete(job.id)
        return
    job_table.delete(job.id)
    with pytest.raises(NotFoundError):
        job_table.get(job.id)
    assert job_table.events.read(job.id) == []
    assert job_table.of_key("key") is None


def test_a_file_of_an_older_server_is_brought_up_to_date(tmp_path: Path) -> None:
    import sqlite3

    old = sqlite3.connect(tmp_path / "old.sqlite")
    old.executescript(STEPS[0])
    old.execute("INSERT INTO jobs VALUES ('job_1', 1, 'old', 'running', 5.0, '{}', NULL, NULL, NULL)")
    old.commit()
    old.close()
    for _ in range(2):
        database = Database(tmp_path / "old.sqlite")
        job = JobTable(database).get("old")
        database.close()
        assert (job.state, job.priority, job.requested, job.attempts) == ("running", 0, None, 0)


def test_a_file_of_a_newer_server_is_left_alone(tmp_path: Path) -> None:
    database = Database(tmp_path / "new.sqlite")
    with database.writing() as db:
        db.execute(f"PRAGMA user_version = {len(STEPS) + 1}")
    database.close()
    with pytest.raises(ConflictError, match="newer server"):
        Database(tmp_path / "new.sqlite")


def test_a_job_of_an_older_server_has_current_names(tmp_path: Path) -> None:
    import json
    import sqlite3

    fault = {"where": "line 3", "field": "label", "found": "nothing", "mend": "write a label"}
    problem = {"code": "invalid-dataset", "detail": "line 3", "errors": [fault]}
    subsets = (
        {"kind": "lora", "a": "inputs", "rank": 4},
        {"kind": "lora", "a": "random"},
        {"kind": "core", "rank": 8},
    )
    old = sqlite3.connect(tmp_path / "old.sqlite")
    for step in STEPS[:3]:
        old.executescript(step)
    old.execute("PRAGMA user_version = 3")
    for number, subset in enumerate(subsets, 1):
        spec = json.dumps(
            {
                "dataset": "ds_1",
                "profile": {"subset": subset, "steps": 9, "batch": {"cuda_graphs": True}},
                "request": "abc",
            }
        )
        values = (f"job_{number}", number, f"old-{number}", spec, json.dumps(problem), "cancel")
        old.execute(
            "INSERT INTO jobs (id, number, name, spec, error, wish, state, created)"
            " VALUES (?, ?, ?, ?, ?, ?, 'queued', 5.0)",
            values,
        )
    event = json.dumps({"state": "failed", "error": problem})
    old.execute("INSERT INTO events (job, kind, at, data) VALUES ('job_1', 'state', 5.0, ?)", (event,))
    old.commit()
    old.close()

    for _ in range(2):
        database = Database(tmp_path / "old.sqlite")
        jobs = JobTable(database).rows()
        events = JobTable(database).events.read("job_1")
        database.close()
        assert [job.spec["profile"]["subset"] for job in jobs] == [
            {"kind": "lora", "init_a": "input-subspace", "rank": 4},
            {"kind": "lora", "init_a": "random"},
            {"kind": "lora-xs", "rank": 8},
        ]
        assert all(job.spec["profile"]["batch"] == {} for job in jobs)
        assert {(job.requested, job.spec["request"], job.spec["profile"]["steps"]) for job in jobs} == {
            ("cancel", "abc", 9)
        }
        current = [{"where": "line 3", "field": "label", "found": "nothing", "fix": "write a label"}]
        assert [job.error and job.error["errors"] for job in jobs] == [current] * 3
        assert events[0].data["error"]["errors"] == current
