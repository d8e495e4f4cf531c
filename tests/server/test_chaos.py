"""The storm of `benchmarks.chaos`, small: killed, torn, and on a disk that fails, nothing is lost."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

NOTHING = ("lost_steps", "different_adapters", "stuck_or_failed_jobs", "lost_or_torn_uploads", "damaged_databases")


def test_nothing_is_lost(tiny_path: Path, tmp_path: Path) -> None:
    modes = ["kill", "torn", "broken", *(["full"] if can_mount(tmp_path / "mount") else [])]
    out = tmp_path / "chaos.json"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.chaos", "--modes", ",".join(modes), "--kills", "8"),
            *("--jobs", "5", "--steps", "25", "--base", str(tiny_path), "--out", str(out)),
        ],
        capture_output=True,
        text=True,
        timeout=500,
        env={**os.environ, "OMP_WAIT_POLICY": "passive", "HF_HUB_OFFLINE": "1"},
    )
    assert out.exists(), done.stderr
    found = json.loads(out.read_text())["modes"]
    assert [one["mode"] for one in found] == modes
    for one in found:
        assert {name: one[name] for name in NOTHING} == dict.fromkeys(NOTHING, 0), done.stderr
        assert one["jobs"] > 0
        assert one["disturbances"] >= 2
    assert done.returncode == 0


def can_mount(place: Path) -> bool:
    """Whether a small file system of its own can be had, to be filled up."""
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(place)], capture_output=True).returncode:
        return False
    subprocess.run(["umount", str(place)], check=True)
    return True
