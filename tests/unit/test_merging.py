"""Merged exports of a server: refused in words where they cannot be made, one at a time, nothing left behind."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from server.adapters import merging
from server.adapters.merging import merged_files
from steerzo_edge.errors import BaseModelError, BusyError, ConflictError
from tests.conftest import Loader
from tests.unit.test_adapters import uploaded
from tests.unit.test_runner import Box
from tests.unit.test_states import Clock


@pytest.fixture
def box(tmp_path: Path, tiny: Loader) -> Box:
    return Box(tmp_path / "data", tiny("nf4"), Clock())


def server_of(box: Box) -> Any:
    return SimpleNamespace(
        adapters=box.adapters,
        device=SimpleNamespace(base=box.base),
        settings=SimpleNamespace(model=SimpleNamespace(revision=None)),
        room=SimpleNamespace(check_disk=lambda more_bytes: None),
    )


def left(box: Box) -> list[str]:
    return [path.name for path in (box.root / "adapters").iterdir() if path.name.startswith(".")]


def test_a_base_without_sixteen_bits_is_a_conflict(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    row = uploaded(box, "mine")

    def refused(*given: Any, **more: Any) -> None:
        raise BaseModelError("it was released quantized")

    monkeypatch.setattr(merging, "export_merged", refused)
    with pytest.raises(ConflictError, match="16 bits: it was released"):
        merged_files(server_of(box), row)
    assert left(box) == []
    assert not box.adapters.merging.locked()


def test_too_little_memory_is_told_before_anything_is_loaded(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    row = uploaded(box, "mine")
    monkeypatch.setattr(merging, "free_bytes", lambda device: 1000)
    monkeypatch.setattr(merging, "export_merged", None)
    with pytest.raises(ConflictError, match="are free"):
        merged_files(server_of(box), row)


def test_one_at_a_time(box: Box) -> None:
    row = uploaded(box, "mine")
    with box.adapters.merging, pytest.raises(BusyError):
        merged_files(server_of(box), row)
    files = merged_files(server_of(box), row)
    assert "model.safetensors" in files
    assert left(box) == []  # open still, and gone from the disk
    for file in files.values():
        assert file.read(1)
        file.close()
