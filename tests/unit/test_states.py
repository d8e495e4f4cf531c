"""The table of a job's states, every pair of it, and what the store does along the way."""

from itertools import product
from pathlib import Path
from typing import get_args

import pytest

from server.store.database import STEPS, Database
from server.store.jobs import Store
from server.store.rows import JobRow
from server.store.states import FINAL, GOAL, NEXT, State
from steerzo_edge.errors import BusyError, ConflictError, NotFoundError
from steerzo_edge.records import EvalRecord

STATES: tuple[State, ...] = get_args(State)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(tmp_path / "db.sqlite")


@pytest.fixture
def store(database: Database, clock: Clock) -> Store:
    return Store(database, now=clock)


def put(database: Database, job: JobRow, state: State) -> None:
    """A job in any state, past the table."""
    with database.writing() as db:
        db.execute("UPDATE jobs SET state = ? WHERE id = ?", (state, job.id))


def states_of(store: Store, job: str) -> list[str]:
    return [event.data["state"] for event in store.events(job, kinds=("state",))]


def test_every_state_is_in_the_table_and_reached() -> None:
    assert set(NEXT) == set(STATES)
    assert {state for following in NEXT.values() for state in following} == set(STATES)
    assert not (FINAL & NEXT["queued"]) - {"cancelled", "failed"}


@pytest.mark.parametrize(("old", "new"), list(product(STATES, STATES)))
def test_every_change_of_state(database: Database, store: Store, old: State, new: State) -> None:
    job = store.add_job("job_1", None, {})
    put(database, job, old)
    if new in NEXT[old]:
        assert store.change_state(job.id, new).state == new
        assert states_of(store, job.id) == ["queued", new]
        assert (store.job(job.id).ended is not None) == (new in FINAL)
    else:
        with pytest.raises(ConflictError, match=f"{old} and cannot become {new}"):
            store.change_state(job.id, new)
        assert store.job(job.id).state == old
        assert states_of(store, job.id) == ["queued"]


@pytest.mark.parametrize(("state", "wish"), list(product(STATES, GOAL)))
def test_what_is_asked_is_done_noted_or_refused(database: Database, store: Store, state: State, wish: str) -> None:
    job = store.add_job("job_1", None, {})
    put(database, job, state)
    goal = GOAL[wish]  # type: ignore[index]
    if state == "running":
        asked = store.ask(job.id, wish)  # type: ignore[arg-type]
        assert (asked.state, asked.wish) == ("running", wish)
        assert store.wish(job.id) == wish
        assert store.change_state(job.id, goal).wish is None
    elif goal in NEXT[state]:
        assert store.ask(job.id, wish).state == goal  # type: ignore[arg-type]
    else:
        with pytest.raises(ConflictError):
            store.ask(job.id, wish)  # type: ignore[arg-type]


@pytest.mark.parametrize("state", STATES)
def test_resume(database: Database, store: Store, state: State) -> None:
    job = store.add_job("job_1", None, {})
    put(database, job, state)
    if state in ("paused", "failed", "interrupted"):
        assert store.resume(job.id).state == "queued"
    else:
        with pytest.raises(ConflictError):
            store.resume(job.id)


def test_a_pause_can_be_taken_back_and_a_cancel_cannot(store: Store) -> None:
    job = store.add_job("job_1", None, {})
    store.change_state(job.id, "running")
    store.ask(job.id, "pause")
    assert store.resume(job.id).wish is None
    store.ask(job.id, "pause")
    store.ask(job.id, "cancel")
    with pytest.raises(ConflictError, match="being cancelled"):
        store.ask(job.id, "pause")
    with pytest.raises(ConflictError):
        store.resume(job.id)


def test_a_wish_outlasts_a_crash(tmp_path: Path, store: Store) -> None:
    job = store.add_job("job_1", None, {})
    store.change_state(job.id, "running")
    store.ask(job.id, "cancel")
    again = Store(Database(tmp_path / "db.sqlite"))
    again.change_state(job.id, "interrupted")
    assert again.change_state(job.id, "queued").wish == "cancel"


def test_the_queue_goes_by_wish_then_priority_then_age(store: Store, clock: Clock) -> None:
    for number, priority in enumerate([0, 5, 5, -3], 1):
        store.add_job(f"job_{number}", None, {}, priority=priority)
    order = []
    while (job := store.next_job()) is not None:
        order.append(job.number)
        assert store.ahead_of(job) == 0
        store.change_state(job.id, "cancelled")
    assert order == [2, 3, 1, 4]


def test_a_job_that_tries_again_waits_its_time(store: Store, clock: Clock) -> None:
    store.add_job("job_1", None, {})
    store.change_state("job_1", "running")
    waiting = store.try_again("job_1", {"code": "storage-failed"}, 30)
    assert states_of(store, "job_1") == ["queued", "running", "interrupted", "queued"]
    assert (waiting.attempts, waiting.not_before) == (1, 1030)
    assert store.next_job() is None
    clock.now += 31
    assert store.next_job() is not None
    store.change_state("job_1", "running")
    store.went_well("job_1")
    assert store.job("job_1").attempts == 0


def test_no_more_jobs_wait_than_may(store: Store) -> None:
    store.add_job("job_1", None, {}, max_waiting=1)
    with pytest.raises(BusyError):
        store.add_job("job_2", None, {}, max_waiting=1)
    store.change_state("job_1", "running")
    store.add_job("job_2", None, {}, max_waiting=1)


def test_pages_are_newest_first_and_meet(store: Store) -> None:
    for number in range(1, 8):
        store.add_job(f"job_{number}", None, {})
    store.change_state("job_3", "cancelled")
    first = store.page(before=None, limit=3)
    second = store.page(before=first[-1].number, limit=10)
    assert [job.number for job in first + second] == [7, 6, 5, 4, 3, 2, 1]
    assert [job.number for job in store.page(before=None, limit=10, state="cancelled")] == [3]


@pytest.mark.parametrize("state", STATES)
def test_delete(database: Database, store: Store, state: State) -> None:
    job = store.add_job("job_1", None, {}, "key")
    store.add_records(job.id, [EvalRecord(0, 1.0, None, 2, True)])
    put(database, job, state)
    if state in ("running", "interrupted"):
        with pytest.raises(ConflictError, match=state):
            store.delete(job.id)
        return
    store.delete(job.id)
    with pytest.raises(NotFoundError):
        store.job(job.id)
    assert store.events(job.id) == []
    assert store.job_of_key("key") is None


def test_a_file_of_an_older_server_is_brought_up_to_date(tmp_path: Path) -> None:
    import sqlite3

    old = sqlite3.connect(tmp_path / "old.sqlite")
    old.executescript(STEPS[0])
    old.execute("INSERT INTO jobs VALUES ('job_1', 1, 'old', 'running', 5.0, '{}', NULL, NULL, NULL)")
    old.commit()
    old.close()
    for _ in range(2):
        database = Database(tmp_path / "old.sqlite")
        job = Store(database).job("old")
        database.close()
        assert (job.state, job.priority, job.wish, job.attempts) == ("running", 0, None, 0)


def test_a_file_of_a_newer_server_is_left_alone(tmp_path: Path) -> None:
    database = Database(tmp_path / "new.sqlite")
    with database.writing() as db:
        db.execute(f"PRAGMA user_version = {len(STEPS) + 1}")
    database.close()
    with pytest.raises(ConflictError, match="newer server"):
        Database(tmp_path / "new.sqlite")
