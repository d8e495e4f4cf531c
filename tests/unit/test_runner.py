"""Jobs on the runner, time slice by time slice, without a server: paused, stopped, out of disk, begun again."""

import errno
import sqlite3
from collections.abc import Callable
from itertools import islice
from typing import Any

import pytest
import torch

from server.jobs.retries import Retries
from server.store.rows import JobRow
from server.system_errors import known_error_of
from steerzo_edge.errors import (
    CapacityError,
    InputError,
    StorageError,
)
from steerzo_edge.zo.entry import Entry
from steerzo_edge.zo.journal import Journal
from tests.conftest import Loader
from tests.unit.runner_box import STEPS, Box, Clock


@pytest.fixture(scope="module")
def expected(tiny: Loader, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the job makes when nothing disturbs it."""
    calm = Box(tmp_path_factory.mktemp("calm"), tiny("nf4"), Clock())
    job = calm.post()
    calm.work()
    result = calm.job_table.get(job.id).result
    assert result is not None
    return result


def steps_of(box: Box, job: JobRow) -> list[int | None]:
    return [event.step for event in box.job_table.events.read(job.id, kinds=("step",))]


def test_pause_and_resume_lose_nothing(box: Box, expected: dict[str, Any]) -> None:
    first, second = box.post(), box.post(priority=-1)
    time_slices = box.time_slices()
    for _ in range(6):
        next(time_slices)
    before = steps_of(box, first)
    box.runner.pause(first)
    next(time_slices)
    assert box.job_table.get(first.id).state == "paused"
    assert len(steps_of(box, first)) <= len(before) + 1
    name, patches = box.runner.adapter(first.id)
    assert name == first.id
    assert patches
    list(time_slices)
    assert box.job_table.get(second.id).state == "succeeded"
    assert box.job_table.get(first.id).state == "paused"
    box.runner.resume(first)
    box.work()
    done = box.job_table.get(first.id)
    assert done.state == "succeeded"
    assert done.result == expected
    assert steps_of(box, first) == list(range(STEPS))


@pytest.mark.parametrize("requested", ["pause", "cancel"])
def test_a_request_made_just_before_a_crash_is_carried_out(box: Box, requested: str) -> None:
    job = box.post()
    box.work(5)
    getattr(box.runner, requested)(job)
    again = box.again()
    assert again.job_table.get(job.id).state == "queued"
    again.work()
    done = again.job_table.get(job.id)
    assert done.state == {"pause": "paused", "cancel": "cancelled"}[requested]
    assert done.result is not None
    assert done.result["step"] <= 5


@pytest.mark.parametrize("requested", ["pause", "cancel"])
def test_a_job_stopped_while_it_waits_to_go_on_keeps_what_it_learned(box: Box, requested: str) -> None:
    job = box.post()
    box.work(8)
    again = box.again()  # a crash: the job waits with steps done
    getattr(again.runner, requested)(again.job_table.get(job.id))
    stopped = again.job_table.get(job.id)
    assert (stopped.state, stopped.result) == ({"pause": "paused", "cancel": "cancelled"}[requested], None)
    again.work()
    result = again.job_table.get(job.id).result
    assert result is not None
    assert again.runner.adapter(job.id)[0] == job.id


def failing(monkeypatch: pytest.MonkeyPatch, step: int, times: int, error: Callable[[], Exception]) -> None:
    """Makes the journal's line of a step fail so many times."""
    append, left = Journal.append, [times]

    def broken(self: Journal, entry: Entry) -> None:
        if getattr(entry.record, "step", None) == step and entry.gradient.terms and left[0]:
            left[0] -= 1
            raise error()
        append(self, entry)

    monkeypatch.setattr(Journal, "append", broken)


FAULTS: dict[str, Callable[[], Exception]] = {
    "full": lambda: OSError(errno.ENOSPC, "No space left on device", "/data/jobs/job_1/journal"),
    "broken": lambda: OSError(errno.EIO, "Input/output error"),
    "memory": lambda: torch.OutOfMemoryError("CUDA out of memory"),
    "probe": lambda: CapacityError("one probe does not fit"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_temporary_fault_costs_no_step(
    box: Box, clock: Clock, monkeypatch: pytest.MonkeyPatch, expected: dict[str, Any], fault: str
) -> None:
    failing(monkeypatch, 5, 2, FAULTS[fault])
    job = box.post()
    for attempt, delay_s in enumerate((10, 20), 1):
        box.work()
        waiting = box.job_table.get(job.id)
        assert (waiting.state, waiting.attempts) == ("queued", attempt)
        assert waiting.error is not None
        assert waiting.error["code"] in ("storage-failed", "out-of-memory")
        clock.now += delay_s - 1
        box.work()
        assert box.job_table.get(job.id).state == "queued"
        clock.now += 2
    box.work()
    done = box.job_table.get(job.id)
    assert (done.state, done.error, done.result) == ("succeeded", None, expected)
    logs = [event.data["message"] for event in box.job_table.events.read(job.id, kinds=("log",))]
    assert any("attempt 2 in 10 s" in message for message in logs)


def test_a_fault_that_stays_fails_the_job_and_leaves_a_journal_to_go_on_from(
    box: Box, clock: Clock, monkeypatch: pytest.MonkeyPatch, expected: dict[str, Any]
) -> None:
    failing(monkeypatch, 5, 3, FAULTS["full"])
    job = box.post()
    for _ in range(3):
        box.work()
        clock.now += 100
    failed = box.job_table.get(job.id)
    assert failed.state == "failed"
    assert failed.error is not None
    assert (failed.error["code"], failed.error["status"]) == ("storage-failed", 507)
    assert "the disk is full" in failed.error["detail"]
    _, entries = Journal.read(box.directory.job(job.id) / "journal")
    assert [entry.record.step for entry in entries if entry.gradient.terms] == [0, 1, 2, 3, 4]
    box.runner.resume(failed)
    box.work()
    assert box.job_table.get(job.id).result == expected


def test_a_successful_step_resets_the_count_of_faults(
    box: Box, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, 5, 2, FAULTS["full"])
    job = box.post()
    box.work()
    clock.now += 100
    box.work()
    assert box.job_table.get(job.id).attempts == 2
    clock.now += 100
    box.work(4)
    assert box.job_table.get(job.id).attempts == 0


def test_a_bug_fails_the_job_at_once_and_not_the_runner(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, 5, 1, lambda: ZeroDivisionError("a bug"))
    first, second = box.post(), box.post()
    box.work()
    failed = box.job_table.get(first.id)
    assert failed.state == "failed"
    assert failed.error is not None
    assert failed.error["code"] == "internal-error"
    assert box.job_table.get(second.id).state == "succeeded"


@pytest.mark.parametrize("half", ["nothing", "half"])
def test_events_that_cannot_be_written_are_written_later(
    box: Box, clock: Clock, monkeypatch: pytest.MonkeyPatch, expected: dict[str, Any], half: str
) -> None:
    """A full disk takes neither the journal's line nor the word that it was not taken, or only half of it."""
    failing(monkeypatch, 5, 1, FAULTS["full"])
    job = box.post()
    move = box.job_table._move
    full = [True]

    def refused(db: sqlite3.Connection, id: str, state: Any, **more: Any) -> None:
        if state == ("interrupted" if half == "nothing" else "queued") and full[0]:
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error
        move(db, id, state, **more)

    monkeypatch.setattr(box.job_table, "_move", refused)
    assert list(islice(box.time_slices(), 100))
    assert box.job_table.get(job.id).state == "running"
    assert box.runner.next_job() is None
    full[0] = False
    assert box.runner.next_job() is None
    assert box.job_table.get(job.id).state == "queued"
    clock.now += 11
    box.work()
    assert box.job_table.get(job.id).result == expected


def test_a_job_that_cannot_start_waits_and_tries_again(
    box: Box, monkeypatch: pytest.MonkeyPatch, expected: dict[str, Any]
) -> None:
    job = box.post()
    move = box.job_table._move
    refusals: list[Any] = []

    def refused(db: sqlite3.Connection, id: str, state: Any, **more: Any) -> None:
        if len(refusals) < 1:
            refusals.append(state)
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error
        move(db, id, state, **more)

    monkeypatch.setattr(box.job_table, "_move", refused)
    box.work()
    assert (refusals, box.job_table.get(job.id).state) == (["running"], "queued")
    monkeypatch.setattr(box.runner, "_pause_until", 0.0)
    box.work()
    assert box.job_table.get(job.id).result == expected


@pytest.mark.parametrize("name", ["snapshot.safetensors", "best.safetensors"])
@pytest.mark.parametrize("damage", ["flipped", "cut", "empty"])
def test_a_damaged_snapshot_is_made_again(box: Box, expected: dict[str, Any], name: str, damage: str) -> None:
    job = box.post()
    box.work(9)
    path = box.directory.job(job.id) / name
    data = bytearray(path.read_bytes())
    data[-2] ^= 64
    path.write_bytes({"flipped": bytes(data), "cut": bytes(data[:-9]), "empty": b""}[damage])
    again = box.again()
    again.work()
    assert again.job_table.get(job.id).result == expected


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(errno.ENOSPC, "full"), StorageError),
        (OSError(errno.EIO, "broken", "/x"), StorageError),
        (OSError(errno.ENOENT, "missing"), None),
        (MemoryError(), CapacityError),
        (sqlite3.OperationalError("no such table"), None),
        (ValueError("x"), None),
    ],
)
def test_which_errors_are_the_machine_s(error: Exception, kind: type | None) -> None:
    found = known_error_of(error)
    assert found is None if kind is None else isinstance(found, kind)


def test_waits_between_tries_double_up_to_a_bound() -> None:
    retries = Retries(3, 10.0)
    full = StorageError("full")
    assert [retries.next_in_s(full, attempts) for attempts in range(4)] == [10, 20, 40, None]
    assert retries.next_in_s(InputError("bad"), 0) is None
    assert Retries(100, 10.0).next_in_s(full, 50) == 3600
