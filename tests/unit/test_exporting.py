"""Exports of a server: refused in words where they cannot be made, one at a time, nothing left behind."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from server.adapters import exporting
from server.adapters.exporting import exported_files
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

    monkeypatch.setattr(exporting, "export", refused)
    with pytest.raises(ConflictError, match="exported so: it was released"):
        exported_files(server_of(box), row, "merged")
    assert left(box) == []
    assert not box.adapters.merging.locked()


def test_too_little_memory_is_told_before_anything_is_loaded(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    row = uploaded(box, "mine")
    monkeypatch.setattr(exporting, "free_bytes", lambda device: 1000)
    monkeypatch.setattr(exporting, "export", None)
    with pytest.raises(ConflictError, match="are free"):
        exported_files(server_of(box), row, "merged")


def test_one_at_a_time(box: Box) -> None:
    row = uploaded(box, "mine")
    with box.adapters.merging, pytest.raises(BusyError):
        exported_files(server_of(box), row, "merged")
    files = exported_files(server_of(box), row, "merged")
    assert "model.safetensors" in files
    assert left(box) == []  # open still, and gone from the disk
    for file in files.values():
        assert file.read(1)
        file.close()


def test_an_adapter_alone_does_not_wait_for_a_whole_model(box: Box) -> None:
    row = uploaded(box, "mine")
    with box.adapters.merging:
        files = exported_files(server_of(box), row, "gguf-lora")
    assert list(files) == [f"{row.id}.gguf"]
    whole = exported_files(server_of(box), row, "gguf")
    assert left(box) == []
    for file in (*files.values(), *whole.values()):
        assert file.read(4) == b"GGUF"
        file.close()
