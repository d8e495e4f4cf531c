"""The process that makes an export: its refusals, its limit and environment, and its end with its parent."""

import json
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from steerzo_edge.errors import CapacityError, ConflictError, SteerzoError
from steerzo_edge.export import apart
from steerzo_edge.export.apart import export_apart
from tests.unit.runner_box import Box
from tests.unit.test_adapters import uploaded


def test_refusals_of_the_export_process_reach_the_caller_unchanged(box: Box, tmp_path: Path) -> None:
    adapter = box.adapters.files.directory(uploaded(box, "mine"))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "file").touch()
    with pytest.raises(ConflictError, match="exists already") as caught:
        export_apart("merged", adapter, tmp_path / "out", box.base.name)
    assert caught.value.hint == "Name a new directory."
    with pytest.raises(FileNotFoundError):
        apart._raise(apart.REFUSED, json.dumps({"kind": "OSError", "message": "gone", "errno": 2}).encode(), b"")
    with pytest.raises(CapacityError):
        apart._raise(-9, b"", b"")
    with pytest.raises(SteerzoError, match="log has the details") as unknown:
        apart._raise(1, b"", b"Traceback: what happened")
    assert "what happened" in str(unknown.value.__cause__)


def test_the_process_has_a_limit_and_none_of_the_servers_environment(
    box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = box.adapters.files.directory(uploaded(box, "mine"))
    for name in ("STEERZO_API_KEY", "STEERZO_HF_TOKEN_FILE", "HF_TOKEN"):
        monkeypatch.setenv(name, "secret")
    assert "secret" not in apart._environment().values()
    with pytest.raises(SteerzoError):
        export_apart("merged", adapter, tmp_path / "out", box.base.name, memory_bytes=1 << 20)
    assert not (tmp_path / "out").exists()


def test_the_process_ends_with_its_parent(box: Box, tmp_path: Path) -> None:
    adapter = box.adapters.files.directory(uploaded(box, "mine"))
    code = "import sys, pathlib; from steerzo_edge.export.apart import export_apart; p = pathlib.Path; "
    code += "export_apart('merged', p(sys.argv[1]), p(sys.argv[2]), sys.argv[3])"
    parent = subprocess.Popen([sys.executable, "-c", code, str(adapter), str(tmp_path / "out"), box.base.name])
    until = time.monotonic() + 60
    while not (below := psutil.Process(parent.pid).children()) and time.monotonic() < until:
        time.sleep(0.02)
    parent.kill()
    parent.wait()
    (child,) = below
    psutil.wait_procs([child], timeout=60)
    assert not child.is_running()
    assert not (tmp_path / "out").exists()
