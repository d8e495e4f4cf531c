"""`steerzo demo --real`, shortened: the main job over HTTP with a real model."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.real


def test_the_real_demo(real_base_file: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "server", "demo", "--base", str(real_base_file), "--steps", "2"]
    done = subprocess.run(
        [*command, "--data-dir", str(tmp_path / "demo")], capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert f"base {real_base_file} in nf4" in done.stdout.replace("\n", "")
    assert "job succeeded" in done.stdout
    assert "correct answer" in done.stdout
    before, after = re.findall(r"^  (?:before|after)  (0\.\d+)", done.stdout, re.MULTILINE)
    assert float(before) > 0.143  # better than guessing
    assert float(after) > 0.143
