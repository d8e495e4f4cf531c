"""A server keeps packed copies beside its data, and they do not count towards the quota of the data."""

from pathlib import Path

import pytest

from server.services.build import _load
from server.services.quota import Quota
from server.settings import Settings, from_environment
from server.store.database import Database
from tests.unit.packed_bases import is_mapped


def settings(tiny_path: Path, data_dir: Path, **others: object) -> Settings:
    return from_environment({}, data_dir=data_dir, base=str(tiny_path), least_free_bytes=0, **others)


def test_the_second_start_opens_what_the_first_has_kept(tiny_path: Path, tmp_path: Path) -> None:
    first = _load(settings(tiny_path, tmp_path))
    (kept,) = (tmp_path / "packed").glob("*.packed")
    assert not is_mapped(kept)
    second = _load(settings(tiny_path, tmp_path))
    assert is_mapped(kept)
    assert (second.name, second.fingerprint) == (first.name, first.fingerprint)


def test_another_place_and_none(tiny_path: Path, tmp_path: Path) -> None:
    _load(settings(tiny_path, tmp_path / "data", packed_dir=tmp_path / "there"))
    assert len(list((tmp_path / "there").glob("*.packed"))) == 1
    _load(settings(tiny_path, tmp_path / "data", max_packed_bytes=0))
    assert not (tmp_path / "data" / "packed").exists()


@pytest.mark.parametrize(("name", "counted"), [("packed", 0), ("jobs/packed", 1000), ("other", 1000)])
def test_the_quota(tmp_path: Path, name: str, counted: int) -> None:
    database = Database(tmp_path / "steerzo.sqlite")

    def held() -> int:
        return Quota(tmp_path, database, most_bytes=None, most_datasets=1, least_free_bytes=0).held_bytes()

    before = held()
    (tmp_path / name).mkdir(parents=True)
    (tmp_path / name / "x.packed").write_bytes(b"x" * 1000)
    assert held() - before == counted
