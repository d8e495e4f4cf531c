"""The table of adapters, their names, their place in memory; also for databases of older servers."""

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import torch

from server.errors import NoRoomError
from server.ids import ID
from server.store.adapter_cache import AdapterCache, bytes_of
from server.store.adapter_files import AdapterFiles
from server.store.adapter_names import LATEST
from server.store.adapters import AdapterRow
from server.store.database import STEPS, Database
from server.store.directory import DataDirectory
from server.store.jobs import JobTable
from steerzo_edge.errors import AdapterFileError, ConflictError, NotFoundError
from steerzo_edge.model.adapter_file import file_sha256
from steerzo_edge.model.base import Base
from tests.peft_directory import lora_files, written
from tests.unit.runner_box import Box


def done(box: Box, name: str | None = None, **changes: Any) -> str:
    job = box.post(name, steps=1, **changes)
    box.work()
    return job.id


def uploaded(box: Box, name: str, rank: int = 4, seed: int = 0) -> AdapterRow:
    """What `keep_adapter` does once an upload was found good."""
    incoming = written(box.adapters.files.fresh(), lora_files(box.base, rank, seed=seed))
    sha256, config = (file_sha256(incoming / f) for f in ("adapter_model.safetensors", "adapter_config.json"))
    id = f"ad_{len(box.adapters.table.rows()):016x}"
    box.adapters.files.put(incoming, id)
    facts = {"base": "x", "rank": rank, "config_sha256": config}
    return box.adapters.table.add(id, name, sha256, facts, exact=True, most=100)


def test_an_adapter_is_listed_once_its_job_has_stored_it(box: Box) -> None:
    job = box.post("mine")
    time_slices = box.time_slices()
    next(time_slices)
    assert box.adapters.table.rows() == []
    list(time_slices)
    (row,) = box.adapters.table.rows()
    result = box.job_table.get(job.id).result
    assert result is not None
    assert ID.fullmatch(row.id)
    assert (row.name, row.job, row.sha256) == ("mine", job.id, result["sha256"])
    assert row.facts == {"base": "bundled", "rank": 2, "step": result["step"]}
    box.runner.delete(box.job_table.get(job.id))
    assert box.adapters.table.rows() == []


def test_a_job_that_goes_on_keeps_its_adapters_id_and_name(box: Box) -> None:
    job = box.post("mine")
    time_slices = box.time_slices()
    for _ in range(6):
        next(time_slices)
    box.runner.pause(job)
    list(time_slices)
    (paused,) = box.adapters.table.rows()
    _, before = box.runner.adapter(paused.id)
    box.adapters.table.rename(paused.id, "best")
    box.runner.resume(job)
    box.work()
    (after,) = box.adapters.table.rows()
    assert (after.id, after.name) == (paused.id, "best")
    assert after.sha256 != paused.sha256
    # The older version may stay in memory, but is not what is meant any more.
    assert box.runner.adapter("best")[1] is not before
    assert box.runner.adapter("best")[1] is box.runner.adapter("mine")[1]


def test_adapters_of_an_older_database_appear(tmp_path: Path) -> None:
    old = sqlite3.connect(tmp_path / "old.sqlite")
    for number, step in enumerate(STEPS[:2], 1):
        old.executescript(f"{step} PRAGMA user_version = {number};")
    spec = json.dumps({"profile": {"model": {"id": "bundled"}, "subset": {"kind": "lora", "rank": 8}}})
    result = json.dumps({"sha256": "ab", "step": 7})
    for number, (name, made) in enumerate([("one", result), ("two", None), ("three", result)], 1):
        values = (f"job_{number}", number, name, "succeeded", float(number), spec, made)
        old.execute(
            "INSERT INTO jobs (id, number, name, state, created, spec, result) VALUES (?, ?, ?, ?, ?, ?, ?)", values
        )
    old.commit()
    old.close()
    for _ in range(2):
        database = Database(tmp_path / "old.sqlite")
        rows = database.rows("SELECT * FROM adapters ORDER BY created")
        assert [(row["name"], row["job"], row["sha256"]) for row in rows] == [
            ("one", "job_1", "ab"),
            ("three", "job_3", "ab"),
        ]
        assert json.loads(rows[0]["facts"]) == {"base": "bundled", "rank": 8, "step": 7}
        assert all(ID.fullmatch(row["id"]) for row in rows)
        database.close()


def test_no_two_adapters_share_a_name(box: Box) -> None:
    job = done(box, "first")
    (row,) = box.adapters.table.rows()
    other = uploaded(box, "other")
    for name in ("first", "latest", "base", job, row.id, other.id, "other"):
        with pytest.raises(ConflictError):
            box.post(name)
        if name not in ("other", other.id):
            with pytest.raises(ConflictError):
                box.adapters.table.rename(other.id, name)
    with pytest.raises(ConflictError):
        uploaded(box, "first")
    table = box.adapters.table
    table.rename(row.id, "best")
    with pytest.raises(ConflictError):
        table.rename(other.id, "first")  # the job is called so still
    table.rename(row.id, "first")
    assert table.add("ad_x", "other", "", {}, exact=False, most=9).name == "other-2"
    with pytest.raises(NoRoomError, match="the limit is 2"):
        table.add("ad_y", "third", "", {}, exact=True, most=2)


def test_names_resolve_to_adapters(box: Box) -> None:
    find = box.adapters.names.find
    with pytest.raises(NotFoundError, match="none yet"):
        find("nothing")
    with pytest.raises(NotFoundError):
        find(LATEST)
    first = done(box, "first")
    (row,) = box.adapters.table.rows()
    other = uploaded(box, "other")
    waiting = box.post("waiting")
    assert [find(name).id for name in (first, "first", LATEST)] == [first] * 3
    assert find(row.id).id == row.id
    assert find("other").id == find(other.id).id == other.id
    assert box.runner.adapter(row.id)[1] is box.runner.adapter("first")[1]
    assert box.runner.adapter("other")[0] == other.id
    with pytest.raises(ConflictError, match="queued"):
        box.runner.adapter("waiting")
    with pytest.raises(NotFoundError, match=r"there are .*first"):
        find("frist")
    time_slices = box.time_slices()
    next(time_slices)
    assert box.runner.adapter(LATEST)[0] == box.runner.adapter("waiting")[0] == waiting.id
    assert box.runner.adapter("first")[0] == first


def test_a_deleted_adapter_is_gone_and_its_job_stays(box: Box) -> None:
    job = box.post("mine", steps=6)
    time_slices = box.time_slices()
    for _ in range(3):
        next(time_slices)
    box.runner.pause(job)
    list(time_slices)
    (row,) = box.adapters.table.rows()
    _, in_use = box.runner.adapter("mine")
    files = box.adapters.files.directory(row)
    box.adapters.table.remove(row.id)
    box.adapters.files.drop(row)
    box.adapters.cache.forget(row.owner)
    assert in_use  # an answer that is under way keeps its patches
    assert not files.exists()
    with pytest.raises(ConflictError, match="was deleted"):
        box.runner.adapter("mine")
    with pytest.raises(NotFoundError):
        box.runner.adapter(row.id)
    with pytest.raises(NotFoundError):
        box.runner.adapter(LATEST)
    with pytest.raises(NotFoundError):
        box.adapters.table.remove(row.id)
    # The job continues, and its new adapter can be loaded again.
    box.runner.resume(box.job_table.get(job.id))
    box.work()
    assert box.runner.adapter("mine")[0] == job.id


def test_the_adapter_of_a_running_job_cannot_be_deleted(box: Box) -> None:
    job = box.post("mine")
    time_slices = box.time_slices()
    for _ in range(3):
        next(time_slices)
    box.runner.pause(job)
    list(time_slices)
    (row,) = box.adapters.table.rows()
    box.runner.resume(job)
    next(box.time_slices())
    with pytest.raises(ConflictError, match="is running"):
        box.adapters.table.remove(row.id)


def test_cached_adapters_are_bounded_and_the_least_recently_used_goes_first(box: Box) -> None:
    rows = [uploaded(box, f"a{seed}", seed=seed) for seed in range(4)]
    size = bytes_of(box.runner.adapter("a0")[1])
    assert size > 1000
    cache = AdapterCache(box.adapters.files, most_bytes=2 * size)
    base = box.base

    def held() -> list[int]:
        return [index for index, row in enumerate(rows) if cache.holds(row)]

    first = cache.patches(rows[0], base)
    cache.patches(rows[1], base)
    assert cache.patches(rows[0], base) is first
    cache.patches(rows[2], base)
    assert held() == [0, 2]
    cache.patches(rows[3], base)
    assert held() == [2, 3]
    assert cache.held_bytes == 2 * size
    assert cache.patches(rows[0], base) is not first
    cache.forget(rows[0].id)
    assert held() == [3]
    large = uploaded(box, "large", rank=16)
    assert cache.patches(large, base)
    assert not cache.holds(large)
    assert cache.held_bytes == size


@pytest.mark.parametrize("file", ["adapter_model.safetensors", "adapter_config.json"])
def test_uploads_are_checked_by_hash_when_they_are_loaded(box: Box, file: str) -> None:
    row = uploaded(box, "mine")
    path = box.adapters.files.directory(row) / file
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(data)
    with pytest.raises(AdapterFileError, match=rf"damaged.*{file}"):
        box.runner.adapter("mine")


def test_leftovers_of_a_crash_are_removed(box: Box) -> None:
    row = uploaded(box, "mine")
    files = box.adapters.files
    written(files.fresh(), {"x": b"x"})
    written(box.root / "adapters" / "ad_unknown", {"x": b"x"})
    files.sweep(box.adapters.table)
    assert [path.name for path in (box.root / "adapters").iterdir()] == [row.id]
    # A new database beside old files does not make them disappear.
    fresh = Database(box.root / "other.sqlite")
    directory = DataDirectory(box.root)
    other = type(box.adapters).of(fresh, directory, JobTable(fresh), memory_bytes=0)
    AdapterFiles(directory).sweep(other.table)
    assert files.directory(row).exists()
    fresh.close()


def test_uploads_of_different_ranks_answer_differently(box: Box) -> None:
    base: Base = box.base
    uploaded(box, "small", rank=1, seed=1)
    uploaded(box, "wide", rank=12, seed=2)
    tokens = torch.tensor([[5, 9, 30, 44]])
    outputs = []
    for name in ("small", "wide"):
        with torch.inference_mode(), base.bank.route(box.runner.adapter(name)[1]):
            outputs.append(base.model(tokens).logits)
    assert not torch.equal(*outputs)
