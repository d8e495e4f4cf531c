"""Jobs on the runner, time slice by time slice, without a server: stopped, out of disk, damaged, cleared away."""

import errno
import json
import sqlite3
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from server.jobs.cleanup import JobCleanup, Retention
from server.jobs.retries import Retries
from server.jobs.runner import Runner
from server.store.adapter_store import AdapterStore
from server.store.database import Database
from server.store.datasets import DatasetTable
from server.store.directory import DataDirectory
from server.store.jobs import JobTable
from server.store.rows import JobRow
from server.system_errors import known_error_of
from steerzo_edge.errors import (
    AdapterFileError,
    CapacityError,
    ConflictError,
    InputError,
    NotFoundError,
    StorageError,
)
from steerzo_edge.model.base import Base
from steerzo_edge.settings.profile import resolve
from steerzo_edge.zo.entry import Entry
from steerzo_edge.zo.journal import Journal
from tests.conftest import Loader, labelled_rows
from tests.server.conftest import PROFILE, TASK
from tests.unit.test_states import Clock

STEPS = 12


class Box:
    """A runner and what it works with, in a directory; made again after a crash."""

    def __init__(
        self,
        root: Path,
        base: Base,
        clock: Clock,
        retention: Retention | None = None,
        *,
        memory_bytes: int = 1 << 30,
    ) -> None:
        self.root, self.base, self.clock = root, base, clock
        self.posted = 0
        self.directory = DataDirectory(root)
        database = Database(self.directory.database)
        self.job_table = JobTable(database, now=clock)
        self.dataset_table = DatasetTable(database)
        self.adapters = AdapterStore.of(database, self.directory, self.job_table, memory_bytes=memory_bytes)
        self.cleanup = JobCleanup(
            self.job_table, self.directory, retention, forget=self.adapters.cache.forget, now=clock
        )
        self.runner = Runner(
            self.job_table,
            self.dataset_table,
            self.directory,
            self.cleanup,
            self.adapters,
            snapshot_every=3,
            retries=Retries(2, 10.0),
        )
        self.runner.start(base)

    def post(self, name: str | None = None, **changes: Any) -> JobRow:
        if not self.dataset_table.rows():
            rows = labelled_rows(20).rows()
            data = "".join(json.dumps(row) + "\n" for row in rows).encode()
            incoming, _ = self.directory.stage(data)
            self.directory.put(incoming, "ds_1.jsonl")
            self.dataset_table.add("ds_1", "rows", "ds_1.jsonl", {"format": "classification"})
        priority = changes.pop("priority", 0)
        profile = resolve(PROFILE, {"steps": STEPS, **changes})
        spec = {"dataset": "ds_1", "validation": None, "profile": profile.model_dump(mode="json"), "task": TASK}
        self.posted += 1
        return self.job_table.add(f"job_{self.posted}", name, {**spec, "seed": 0}, priority=priority)

    def time_slices(self) -> Iterator[None]:
        """What the device's thread would do, until nothing waits."""
        while (work := self.runner.next_job()) is not None:
            yield from work

    def work(self, time_slices: int | None = None) -> None:
        list(islice(self.time_slices(), time_slices))

    def again(self) -> "Box":
        return Box(self.root, self.base, self.clock)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def box(tmp_path: Path, tiny: Loader, clock: Clock) -> Box:
    return Box(tmp_path / "data", tiny("nf4"), clock)


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
def test_what_was_asked_just_before_a_crash_is_done(box: Box, requested: str) -> None:
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
def test_a_fault_that_passes_costs_nothing(
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


def test_a_step_that_goes_well_forgets_earlier_faults(
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
def test_news_that_cannot_be_written_are_written_later(
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


def test_a_job_that_cannot_even_be_begun_waits(
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


def test_a_damaged_adapter_is_not_served(box: Box) -> None:
    job = box.post()
    box.work()
    path = box.directory.job(job.id) / "adapter" / "adapter_model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(AdapterFileError, match="damaged"):
        box.runner.adapter(job.id)
    path.unlink()
    with pytest.raises(AdapterFileError, match="cannot be read"):
        box.runner.adapter(job.id)


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


def test_what_only_a_running_job_needs_is_cleared_away(box: Box) -> None:
    job = box.post()
    box.work()
    assert sorted(path.name for path in box.directory.job(job.id).iterdir()) == [
        "adapter",
        "frozen.safetensors",
        "journal",
    ]


def test_directories_of_no_job_are_cleared_away_at_the_start(box: Box) -> None:
    job = box.post()
    box.work()
    (box.directory.job("job_gone") / "adapter").mkdir(parents=True)
    box.again()
    assert [path.name for path in box.directory.job_directories()] == [job.id]


def test_a_lost_database_costs_no_journal(box: Box) -> None:
    job = box.post()
    box.work()
    for path in box.root.glob("steerzo.sqlite*"):
        path.unlink()
    box.again()
    assert [path.name for path in box.directory.job_directories()] == [job.id]
    assert (box.directory.job(job.id) / "journal").exists()


def test_deleted_means_gone(box: Box) -> None:
    job = box.post("mine")
    time_slices = box.time_slices()
    next(time_slices)
    with pytest.raises(ConflictError, match="running"):
        box.runner.delete(job)
    list(time_slices)
    box.runner.delete(box.job_table.get(job.id))
    assert not box.directory.job(job.id).exists()
    with pytest.raises(NotFoundError):
        box.runner.adapter("mine")
    box.post("mine")


def test_old_and_surplus_jobs_are_cleared_away(tmp_path: Path, tiny: Loader, clock: Clock) -> None:
    box = Box(tmp_path, tiny("nf4"), clock, Retention(jobs=2, days=3.0))
    jobs = []
    for _ in range(3):
        jobs.append(box.post(steps=1))
        box.work()
        clock.now += 60
    assert [job.id for job in box.job_table.rows()] == [job.id for job in jobs[1:]]
    clock.now += 3 * 86_400
    waiting = box.post(steps=1)
    box.cleanup.tidy()
    assert [job.id for job in box.job_table.rows()] == [waiting.id]


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


def test_waits_double_and_end() -> None:
    retries = Retries(3, 10.0)
    full = StorageError("full")
    assert [retries.next_in_s(full, attempts) for attempts in range(4)] == [10, 20, 40, None]
    assert retries.next_in_s(InputError("bad"), 0) is None
    assert Retries(100, 10.0).next_in_s(full, 50) == 3600
