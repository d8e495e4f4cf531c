"""The base's own id names nothing else."""

from pathlib import Path

import pytest

from server.store.adapter_names import AdapterNames
from server.store.adapters import AdapterTable
from server.store.database import Database
from server.store.jobs import JobTable
from steerzo_edge.errors import ConflictError, NotFoundError

HASH = "0" * 64


def test_no_job_and_no_adapter_is_named_as_the_base(tmp_path: Path) -> None:
    database = Database(tmp_path / "server.sqlite", reserved=frozenset({"tiny.gguf"}))
    adapters, jobs = AdapterTable(database), JobTable(database)
    with pytest.raises(ConflictError, match="a name of the base"):
        adapters.add("ad_1", "tiny.gguf", HASH, {}, exact=True, most=9)
    made = adapters.add("ad_1", "tiny.gguf", HASH, {}, exact=False, most=9)
    assert made.name == "tiny.gguf-2"
    with pytest.raises(ConflictError):
        adapters.rename("ad_1", "tiny.gguf")
    with pytest.raises(ConflictError):
        jobs.add("job_1", "tiny.gguf", {})
    assert jobs.add("job_1", "tiny", {}).name == "tiny"
    database.close()


def test_an_adapter_that_has_the_name_from_before_is_found_by_its_id(tmp_path: Path) -> None:
    earlier = Database(tmp_path / "server.sqlite")
    AdapterTable(earlier).add("ad_1", "tiny.gguf", HASH, {}, exact=True, most=9)
    earlier.close()
    database = Database(tmp_path / "server.sqlite", reserved=frozenset({"tiny.gguf"}))
    adapters = AdapterTable(database)
    names = AdapterNames(JobTable(database), adapters)
    with pytest.raises(NotFoundError, match="the base's own id"):
        names.find("tiny.gguf")
    assert names.find("ad_1").stored().name == "tiny.gguf"
    assert adapters.rename("ad_1", "other").name == "other"
    assert names.find("other").id == "ad_1"
    database.close()
