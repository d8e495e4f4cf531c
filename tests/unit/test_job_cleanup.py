"""What jobs leave on the disk: not served when damaged, cleared away, deleted."""

from pathlib import Path

import pytest

from server.jobs.cleanup import Retention
from steerzo_edge.errors import (
    AdapterFileError,
    ConflictError,
    NotFoundError,
)
from tests.conftest import Loader
from tests.unit.runner_box import Box, Clock


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


def test_a_finished_job_keeps_only_the_files_that_are_still_needed(box: Box) -> None:
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


def test_deletion_removes_all_files(box: Box) -> None:
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
