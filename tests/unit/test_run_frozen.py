"""The frozen factors of a run, derived once and kept in its directory: lost, damaged, or another run's."""

from itertools import islice
from pathlib import Path

import pytest

from steerzo_edge.errors import JournalError
from steerzo_edge.settings import sections
from tests.conftest import Loader
from tests.unit.runs import finished, open_run

DERIVED = {
    "input-subspace": {"subset.init_a": "input-subspace", "subset.rank": 3},
    "lora-xs": {"subset.kind": "lora-xs", "subset.rank": 4},
}


@pytest.mark.parametrize("subset", DERIVED)
@pytest.mark.parametrize("lost", ["nothing", "frozen.safetensors", "all but the journal"])
def test_frozen_tensors_are_the_same_after_files_are_lost(
    tiny: Loader, tmp_path: Path, subset: str, lost: str
) -> None:
    base, changes = tiny("nf4"), DERIVED[subset]
    expected = finished(tmp_path / "whole", base, **changes)
    run = open_run(tmp_path / "stopped", base, **changes)
    assert (tmp_path / "stopped" / "frozen.safetensors").exists()
    list(islice(run.records(), 9))
    run.close()
    for path in (tmp_path / "stopped").glob("*.safetensors"):
        if lost == "all but the journal" or path.name == lost:
            path.unlink()
    again = finished(tmp_path / "stopped", base, **changes)
    assert again.sha256 == expected.sha256
    kept = [(tmp_path / name / "frozen.safetensors").read_bytes() for name in ("whole", "stopped")]
    assert kept[0] == kept[1]


@pytest.mark.parametrize("subset", DERIVED)
def test_a_run_goes_on_with_the_bits_that_were_kept(
    tiny: Loader, tmp_path: Path, subset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, changes = tiny("nf4"), DERIVED[subset]
    expected = finished(tmp_path / "whole", base, **changes)
    open_run(tmp_path / "stopped", base, **changes).close()

    # As if this machine rounded otherwise: without the file, the run would be another one.
    for name in ("input_subspace", "lora_xs_factors"):
        derive = getattr(sections, name)
        monkeypatch.setattr(sections, name, lambda *a, _derive=derive, **k: _derive(*a, **k) * 1.25)
    assert finished(tmp_path / "stopped", base, **changes).sha256 == expected.sha256
    assert finished(tmp_path / "elsewhere", base, **changes).sha256 != expected.sha256


@pytest.mark.parametrize("damage", [b"", b"not a tensor"], ids=["empty", "garbage"])
def test_a_damaged_frozen_file_is_made_again(
    tiny: Loader, tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    base, changes = tiny("nf4"), DERIVED["lora-xs"]
    open_run(tmp_path, base, **changes).close()
    path = tmp_path / "frozen.safetensors"
    whole = path.read_bytes()
    path.write_bytes(damage)
    open_run(tmp_path, base, **changes).close()
    assert path.read_bytes() == whole
    assert "made again" in caplog.text


def test_another_runs_frozen_file_is_neither_read_nor_replaced(tiny: Loader, tmp_path: Path) -> None:
    base = tiny("nf4")
    open_run(tmp_path, base, **DERIVED["lora-xs"]).close()
    before = (tmp_path / "frozen.safetensors").read_bytes()
    with pytest.raises(JournalError, match="another"):
        open_run(tmp_path, base, **DERIVED["lora-xs"] | {"subset.rank": 5})
    assert (tmp_path / "frozen.safetensors").read_bytes() == before
    (tmp_path / "journal").unlink()
    open_run(tmp_path, base, **DERIVED["lora-xs"] | {"subset.rank": 5}).close()
    assert (tmp_path / "frozen.safetensors").read_bytes() != before
