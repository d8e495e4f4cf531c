"""`steerzo base`: pack, list, drop; and the commands that use what it packs."""

import gc
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.gguf_file import gguf_of
from tests.unit.commands import steerzo
from tests.unit.packed_bases import cache_in, load


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STEERZO_PACKED_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("STEERZO_MAX_PACKED_BYTES")
    return tmp_path / "cache"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return gguf_of(tmp_path / "x.gguf")


def told(*arguments: object) -> list[dict[str, Any]]:
    done = steerzo("base", *arguments, "--json")
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.output.splitlines()]


def test_pack_list_drop(cache: Path, path: Path) -> None:
    (packed,) = told("pack", path)
    assert packed["was_there"] is False
    assert Path(packed["path"]).parent == cache
    (again,) = told("pack", path)
    assert again == {**packed, "was_there": True}
    gc.collect()  # the base that the command opened is in cycles of references; its own process would have ended
    (listed,) = told("list")
    assert (listed["base"], listed["quantization"], listed["in_use"]) == (str(path), "nf4", False)
    assert listed["bytes"] == Path(packed["path"]).stat().st_size
    assert f"{path} in nf4, bfloat16" in steerzo("base", "list").output
    (dropped,) = told("drop", path)
    assert dropped["dropped"] == listed["key"]
    assert told("list") == []


def test_drop_by_key_and_all(cache: Path, path: Path) -> None:
    for kind in ("nf4", "int8"):
        told("pack", path, "--quantization", kind)
    keys = [kept["key"] for kept in told("list")]
    assert len(keys) == 2
    assert told("drop", keys[0])[0]["dropped"] == keys[0]
    assert [each["dropped"] for each in told("drop", "--all")] == keys[1:]
    assert told("drop", "--all") == []


def test_one_in_use_is_not_dropped(cache: Path, path: Path) -> None:
    told("pack", path)
    held = load(path, cache=cache_in(cache))
    refused = steerzo("base", "drop", path)
    assert refused.exit_code == 1
    assert "is in use" in refused.output
    assert len(told("list")) == 1
    assert held.name == str(path)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("drop",), "name a packed copy, or give --all"),
        (("drop", "x", "--all"), "name a packed copy, or give --all"),
        (("drop", "x"), "there is no packed copy 'x'"),
        (("pack", "bundled"), "no packed copy of 'bundled' in nf4 is kept"),
        (("pack", "gone.gguf"), "there is no such file"),
        (("pack", "bundled", "--to", "x.safetensors"), "no file that ends in .packed"),
        (("pack", "bundled", "--to", "gone/x.packed"), "in a directory that exists"),
        (("pack", "bundled", "--quantization", "int3"), "quantization"),
    ],
)
def test_what_cannot_be_done_is_said(cache: Path, arguments: tuple[str, ...], words: str) -> None:
    refused = steerzo("base", *arguments)
    assert refused.exit_code == 2
    assert words in refused.output
    assert "hint: " in refused.output


def test_turned_off(cache: Path, monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    monkeypatch.setenv("STEERZO_MAX_PACKED_BYTES", "0")
    assert "turned off" in steerzo("base", "list").output
    assert steerzo("generate", "Hi", "--base", path, "--max-new-tokens", 1).exit_code == 0
    assert not cache.exists()
    monkeypatch.setenv("STEERZO_MAX_PACKED_BYTES", "much")
    assert "must be a number of bytes" in steerzo("base", "list").output


def test_commands_fill_the_cache_and_use_it(cache: Path, path: Path) -> None:
    """The same answer from the source, from the copy, and from a packed file."""
    ask = ("generate", "Hi", "--max-new-tokens", 5)
    first = steerzo(*ask, "--base", path)
    assert first.exit_code == 0, first.output
    (kept,) = told("list")
    copy = cache / f"{kept['key']}.packed"
    os.utime(copy, (1, 1))
    assert steerzo(*ask, "--base", path).output == first.output
    assert copy.stat().st_mtime > 1
    told("pack", path, "--to", cache.parent / "x.packed")
    assert steerzo(*ask, "--base", cache.parent / "x.packed").output == first.output


@pytest.mark.long
def test_a_full_disk_is_said_and_nothing_is_left(cache: Path, path: Path, tmp_path: Path) -> None:
    """A limit on the size of files ends the writing in the middle, as a full disk does."""
    target = tmp_path / "there"
    target.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "server", "base", "pack", str(path), "--to", str(target / "x.packed")],
        capture_output=True, text=True, timeout=240, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)),
    )  # fmt: skip
    assert done.returncode == 1
    assert f"{target / 'x.packed'} cannot be written: File too large" in done.stderr
    assert "hint: Free some space" in done.stderr
    assert list(target.iterdir()) == []


def test_what_a_killed_pack_left_goes_at_the_next_one(cache: Path, path: Path, tmp_path: Path) -> None:
    left = tmp_path / ".x.packed.0123.partial"
    left.write_bytes(b"half")
    told("pack", path, "--to", tmp_path / "x.packed")
    assert not left.exists()
    assert (tmp_path / "x.packed").is_file()
