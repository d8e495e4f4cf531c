"""`steerzo demo --real`, shortened: the main job over HTTP with a real model."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from server.commands.demo import INTENTS

pytestmark = [pytest.mark.real, pytest.mark.long]


PROGRAM = """
import pathlib, sys
import server.commands.demo as demo
from server.commands.app import app
demo.INTENTS = pathlib.Path(sys.argv[1])
app(sys.argv[2:])
"""


def test_the_real_demo(real_base_file: Path, tmp_path: Path) -> None:
    """With fewer rows: 48 to train on, every tenth one to test with."""
    rows = tmp_path / "rows"
    rows.mkdir()
    (rows / "task.json").write_bytes((INTENTS / "task.json").read_bytes())
    for part, taken in (("train", slice(48)), ("test", slice(None, None, 10))):
        lines = (INTENTS / f"{part}.jsonl").read_text().splitlines(keepends=True)
        (rows / f"{part}.jsonl").write_text("".join(lines[taken]))
    command = [sys.executable, "-c", PROGRAM, str(rows), "demo", "--base", str(real_base_file), "--steps", "2"]
    done = subprocess.run(
        [*command, "--data-dir", str(tmp_path / "demo")], capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert f"base {real_base_file} in nf4" in done.stdout.replace("\n", "")
    assert "job succeeded" in done.stdout
    assert "correct answer" in done.stdout
    before, after = re.findall(r"^  (?:before|after) +(0\.\d+)", done.stdout, re.MULTILINE)
    assert float(before) > 0.143  # better than guessing
    assert float(after) > 0.143
