"""`steerzo demo` from its start to its end, and without a base."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.long
def test_the_demo_runs_through(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "server", "demo", "--steps", "2", "--data-dir", str(tmp_path / "demo")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "job succeeded" in done.stdout
    assert "before  0.3" in done.stdout
    assert "correct answer" in done.stdout


@pytest.mark.parametrize(
    ("base", "says"),
    [
        (None, "there is no real model at"),
        ("wrong.gguf", "the server did not start: base model 'wrong.gguf' is not a GGUF file"),
    ],
)
def test_the_demo_says_why_there_is_no_base(tmp_path: Path, base: str | None, says: str) -> None:
    (tmp_path / "wrong.gguf").write_text("else")
    program = (
        "import sys, pathlib, server.commands.demo as demo; from server.commands.app import app;"
        "demo.REAL_BASE = pathlib.Path('absent.gguf'); app(sys.argv[1:])"
    )
    command = [sys.executable, "-c", program, "demo", "--real", *(["--base", base] if base else [])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode != 0
    assert says in done.stderr
    assert "hint: " in done.stderr
