"""The frozen prefix: kept within its bounds, the same bits from memory, from disk, or made again."""

from pathlib import Path

import pytest
import torch

from steerzo_edge.data.batches import collate, forks
from steerzo_edge.data.kinds import tokenize
from steerzo_edge.data.packing import pack
from steerzo_edge.data.tokenization import Tokenized
from steerzo_edge.model.base import Base
from steerzo_edge.model.prefix import PrefixStore
from tests.conftest import DATASETS, Loader

MIB = 1 << 20
ROWS = range(20)


def store(base: Base, data: Tokenized, memory: int, disk: int = 0, directory: Path | None = None) -> PrefixStore:
    return PrefixStore(
        base, forks(data), 2, block_tokens=60, memory_bytes=memory, disk_bytes=disk, directory=directory
    )


@pytest.fixture
def base(tiny: Loader) -> Base:
    return tiny("nf4", torch.bfloat16)


@pytest.fixture(params=DATASETS)
def data(base: Base, request: pytest.FixtureRequest) -> Tokenized:
    return tokenize(DATASETS[request.param](), base.tokenizer, 64)


def test_kept_states_do_not_depend_on_when_or_where_they_were_kept(
    base: Base, data: Tokenized, tmp_path: Path
) -> None:
    roomy = store(base, data, MIB)
    tight = store(base, data, 0, MIB, tmp_path / "prefix")
    for indices in ([3, 1, 2], [7, 1, 19], [3], list(ROWS), [3, 1, 2]):
        packed = collate(data, indices).packed
        states = roomy.of(packed).states
        assert torch.equal(states, tight.of(packed).states)
        assert states.shape == (1, packed.input_ids.shape[1], base.model.config.hidden_size)
    assert roomy.usage.read == 0
    assert tight.usage.read > 0
    assert tight.usage.computed == roomy.usage.computed


def test_a_block_is_computed_once(base: Base, data: Tokenized) -> None:
    kept = store(base, data, MIB)
    for _ in range(3):
        for index in ROWS:
            kept.of(collate(data, [index]).packed)
    first = kept.usage.computed
    assert 1 < first < len(ROWS)
    assert kept.usage.memory_bytes == kept.needed_bytes


def test_the_bounds_hold_and_the_files_go(base: Base, data: Tokenized, tmp_path: Path) -> None:
    needed = store(base, data, MIB).needed_bytes
    kept = store(base, data, needed // 2, needed, tmp_path / "prefix")
    largest = 0
    for index in ROWS:
        kept.of(collate(data, [index]).packed)
        largest = max(largest, kept.usage.memory_bytes)
    assert largest <= needed // 2
    files = list((tmp_path / "prefix").glob("block-*"))
    assert files
    assert kept.usage.disk_bytes <= sum(file.stat().st_size for file in files)
    kept.close()
    assert not (tmp_path / "prefix").exists()


def test_states_that_fit_nowhere_are_computed_on_demand(base: Base, data: Tokenized, tmp_path: Path) -> None:
    kept = store(base, data, 1000, 1000, tmp_path / "prefix")
    assert not kept.keeps
    packed = collate(data, list(ROWS)).packed
    kept.of(packed)
    assert kept.usage.memory_bytes == 0
    assert not (tmp_path / "prefix").exists()
    with torch.inference_mode(), base.bank.route({}):
        expected = base.hidden_at(2, packed).states
    assert torch.equal(kept.of(packed).states, expected)


def test_a_lost_or_broken_file_is_made_again(
    base: Base, data: Tokenized, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = store(base, data, 0, MIB, tmp_path)
    everything = collate(data, list(ROWS)).packed
    before = kept.of(everything).states.clone()
    files = sorted(tmp_path.glob("block-*"))
    files[0].unlink()
    files[1].write_bytes(b"not a tensor")
    assert torch.equal(kept.of(pack(everything.rows)).states, before)
    assert "cannot be read" in caplog.text


def test_a_full_disk_only_disables_the_file(
    base: Base, data: Tokenized, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    expected = store(base, data, MIB).of(collate(data, list(ROWS)).packed).states
    monkeypatch.setattr("steerzo_edge.model.prefix.write_tensors", full)
    kept = store(base, data, 0, MIB, tmp_path)
    assert torch.equal(kept.of(collate(data, list(ROWS)).packed).states, expected)
    assert kept.usage.disk_bytes == 0


def test_files_of_an_earlier_process_are_removed(base: Base, data: Tokenized, tmp_path: Path) -> None:
    left = tmp_path / "block-000003.safetensors"
    left.write_bytes(b"from another run")
    store(base, data, 0, MIB, tmp_path)
    assert not left.exists()
