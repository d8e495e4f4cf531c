"""The cache of packed bases: filled at the first load, used at the next, and never in the way of a load."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from steerzo_edge.errors import BaseModelError
from steerzo_edge.model.packed import cache as caching
from steerzo_edge.model.packed import known_hashes
from steerzo_edge.model.sources.registry import source_of
from steerzo_edge.storage import claimed, digest
from tests.gguf_file import gguf_of
from tests.unit.packed_bases import assert_same, cache_in, is_mapped, load, packed_files

ROOT = Path(__file__).parents[2]
# Loads a base with a cache, NAME DIRECTORY, in a process that is killed while it packs it.
CHILD = """
import os, signal, sys
from pathlib import Path
from steerzo_edge.model.packed import file
from tests.unit.packed_bases import cache_in, load

put, written = file._put, 0

def put_and_die(target, digest, data):
    global written
    put(target, digest, data)
    target.flush()
    written += len(data)
    if written > 100_000:
        os.kill(os.getpid(), signal.SIGKILL)

file._put = put_and_die
load(sys.argv[1], cache=cache_in(Path(sys.argv[2])))
"""


@pytest.fixture
def base_path(tiny_path: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_path, tmp_path / "base"))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The source files whose bytes are read to be hashed."""
    read: list[Path] = []
    whole = known_hashes._hashed
    monkeypatch.setattr(known_hashes, "_hashed", lambda path: read.append(path) or whole(path))
    return read


@pytest.mark.parametrize("kind", ["nf4", "fp4", "int8"])
def test_the_second_load_opens_what_the_first_has_kept(
    base_path: Path, directory: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    first = load(base_path, kind, cache_in(directory))  # type: ignore[arg-type]
    (kept,) = cache_in(directory).kept()
    assert (kept.source, kept.in_use) == (str(base_path), False)
    assert not is_mapped(kept.path)
    second = load(base_path, kind, cache_in(directory))  # type: ignore[arg-type]
    assert is_mapped(kept.path)
    assert second.name == first.name == str(base_path)
    assert cache_in(directory).kept()[0].in_use
    assert_same(second, first)


def test_a_file_is_read_once_to_be_hashed(base_path: Path, directory: Path, hashed: list[Path]) -> None:
    load(base_path, cache=cache_in(directory))
    assert base_path / "model.safetensors" in hashed
    hashed.clear()
    load(base_path, cache=cache_in(directory))
    assert hashed == []
    (directory / "hashes.json").write_text("[1]")
    load(base_path, cache=cache_in(directory))
    assert base_path / "model.safetensors" in hashed
    assert len(cache_in(directory).kept()) == 1


def test_a_changed_file_is_another_base(base_path: Path, directory: Path) -> None:
    """Also one of the same size, whose time of change was set back."""
    first = load(base_path, cache=cache_in(directory))
    weights = base_path / "model.safetensors"
    facts, data = weights.stat(), bytearray(weights.read_bytes())
    data[-2] ^= 0x40
    weights.write_bytes(data)
    os.utime(weights, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    second = load(base_path, cache=cache_in(directory))
    assert second.fingerprint != first.fingerprint
    assert len(cache_in(directory).kept()) == 2


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "chat_template.jinja"])
def test_so_is_one_with_another_config_or_template(base_path: Path, directory: Path, name: str) -> None:
    load(base_path, cache=cache_in(directory))
    (base_path / name).write_text((base_path / name).read_text() + "\n")
    load(base_path, cache=cache_in(directory))
    assert len(cache_in(directory).kept()) == 2


def test_copies_of_a_base_share_one(tmp_path: Path, directory: Path) -> None:
    """What counts is the content; a card beside it does not."""
    path = gguf_of(tmp_path / "x.gguf")
    load(path, cache=cache_in(directory))
    again = tmp_path / "again"
    again.mkdir()
    shutil.copy(path, again / path.name)
    found = load(again / path.name, cache=cache_in(directory))
    assert found.name == str(again / path.name)
    assert len(cache_in(directory).kept()) == 1


def test_settings_and_versions_have_copies_of_their_own(
    base_path: Path, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(base_path, "nf4", cache_in(directory))
    load(base_path, "int8", cache_in(directory))
    assert len(cache_in(directory).kept()) == 2
    monkeypatch.setattr(caching, "versions", lambda device: {"torch": "0"})
    load(base_path, "nf4", cache_in(directory))
    assert len(cache_in(directory).kept()) == 3


def test_sixteen_bits_are_not_kept(base_path: Path, directory: Path) -> None:
    """A copy would be as large as the original."""
    load(base_path, "none", cache_in(directory))
    assert cache_in(directory).kept() == []


def test_a_damaged_copy_is_made_again(base_path: Path, directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    fingerprint = load(base_path, cache=cache_in(directory)).fingerprint
    (kept,) = cache_in(directory).kept()
    whole = kept.path.read_bytes()
    kept.path.write_bytes(whole[:-5000] + bytes([whole[-5000] ^ 1]) + whole[-4999:])
    assert load(base_path, cache=cache_in(directory)).fingerprint == fingerprint
    assert "its bytes do not match its hash; the base is loaded from its source" in caplog.text
    assert kept.path.read_bytes() == whole


def test_the_least_recently_used_goes_first_and_one_in_use_never(tmp_path: Path, directory: Path) -> None:
    paths = [gguf_of(tmp_path / f"{number}.gguf", lambda facts, tensors: None) for number in range(4)]
    for number, path in enumerate(paths):  # four different bases of one size
        data = bytearray(path.read_bytes())
        data[-2] ^= number
        path.write_bytes(data)
    load(paths[0], cache=cache_in(directory))
    size = cache_in(directory).kept()[0].size
    most = 3 * size + size // 2
    for path in paths[1:3]:
        load(path, cache=cache_in(directory, most))
    for age, path in enumerate((paths[2], paths[1], paths[0])):
        made = next(kept for kept in cache_in(directory).kept() if kept.source == str(path))
        os.utime(made.path, (1000 - age, 1000 - age))
    held = load(paths[0], cache=cache_in(directory, most))  # uses the oldest
    os.utime(next(k.path for k in cache_in(directory).kept() if k.in_use), (1, 1))
    load(paths[3], cache=cache_in(directory, most))
    left = {kept.source: kept.in_use for kept in cache_in(directory).kept()}
    assert left == {str(paths[0]): True, str(paths[2]): False, str(paths[3]): False}
    assert sum(kept.size for kept in cache_in(directory).kept()) <= most
    assert held.name == str(paths[0])


def test_using_a_copy_makes_it_the_most_recent(base_path: Path, directory: Path) -> None:
    load(base_path, cache=cache_in(directory))
    os.utime(cache_in(directory).kept()[0].path, (1, 1))
    load(base_path, cache=cache_in(directory))
    assert cache_in(directory).kept()[0].used > time.time() - 60


def test_a_base_that_does_not_fit_is_not_kept(
    base_path: Path, directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert load(base_path, cache=cache_in(directory, 1000))
    assert "do not fit into" in caplog.text
    assert cache_in(directory).kept() == []
    assert load(base_path, cache=caching.PackedCache(directory, 1 << 30, least_free_bytes=1 << 60))
    assert cache_in(directory).kept() == []


def test_a_disk_that_fills_up_stops_no_load(
    base_path: Path, directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    update = digest.Digest.update
    written = 0

    def full(self: digest.Digest, data: memoryview) -> None:
        nonlocal written
        written += len(data)
        if written > 100_000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        update(self, data)

    monkeypatch.setattr(digest.Digest, "update", full)
    assert load(base_path, cache=cache_in(directory))
    assert "is kept: the packed copy cannot be written: No space left on device" in caplog.text
    assert packed_files(directory) == []


@pytest.mark.parametrize("fault", ["sync", "rename"])
def test_nor_does_one_that_fails_at_the_end(
    base_path: Path, directory: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patched:
        if fault == "sync":
            patched.setattr(os, "fsync", fail)
        else:
            patched.setattr(Path, "replace", fail)
        assert load(base_path, cache=cache_in(directory))
    assert packed_files(directory) == []


@pytest.mark.parametrize("place", ["/proc/no/cache", "FILE/cache"])
def test_a_directory_that_cannot_be_written_is_done_without(base_path: Path, tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    assert load(base_path, cache=cache_in(Path(place.replace("FILE", str(tmp_path / "file")))))


@pytest.mark.long
def test_what_a_kill_leaves_is_never_opened_and_goes_at_the_next_load(base_path: Path, directory: Path) -> None:
    child = [sys.executable, "-c", CHILD, str(base_path), str(directory)]
    done = subprocess.run(child, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    (left,) = packed_files(directory)
    assert left.name.endswith(".partial")
    assert left.stat().st_size > 100_000
    assert cache_in(directory).kept() == []
    load(base_path, cache=cache_in(directory))
    (kept,) = packed_files(directory)
    assert kept.suffix == ".packed"


def test_what_is_being_written_is_left_alone(directory: Path) -> None:
    directory.mkdir()
    with claimed.written_whole(directory / "x.packed") as file:
        file.write(b"half")
        claimed.remove_abandoned(directory, "*.packed")
        (partial,) = directory.iterdir()
        file.write(b" and half")
    assert not partial.exists()
    assert (directory / "x.packed").read_bytes() == b"half and half"


def test_two_may_pack_the_same_base_at_once(base_path: Path, directory: Path) -> None:
    """A second one packs and opens it in the middle of the first one's writing."""
    base = load(base_path)
    cache = cache_in(directory)
    source = source_of(str(base_path))
    place = cache.place(source, "nf4", torch.bfloat16, base.device)
    assert place is not None
    with claimed.written_whole(place.path) as file:
        file.write(b"the first half of what the slower one writes")
        load(base_path, cache=cache)
        second = load(base_path, cache=cache)
        assert is_mapped(place.path)
        file.write(place.path.read_bytes())
    assert packed_files(directory) == [place.path]
    assert_same(second, base)  # it has its own file still, which has no name any more


def test_errors_of_the_base_are_those_without_a_cache(tmp_path: Path, directory: Path) -> None:
    for name in (tmp_path / "gone", tmp_path / "gone.gguf"):
        with pytest.raises(BaseModelError) as plain:
            load(name)
        with pytest.raises(BaseModelError) as cached:
            load(name, cache=cache_in(directory))
        assert str(cached.value) == str(plain.value)


def test_files_that_change_while_they_are_read_are_not_kept(
    base_path: Path, directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    add = caching.PackedCache.add

    def changed_before(cache: caching.PackedCache, *arguments: Any) -> None:
        (base_path / "config.json").write_text((base_path / "config.json").read_text() + "\n")
        add(cache, *arguments)

    monkeypatch.setattr(caching.PackedCache, "add", changed_before)
    assert load(base_path, cache=cache_in(directory))
    assert "have changed since they were read" in caplog.text
    assert packed_files(directory) == []
