"""A copy of the package that a test may extend, as a contributor would: one new file, one edited line."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def copied_package(tmp_path: Path) -> Path:
    """A copy of `steerzo_edge` in a directory of its own; its assets are linked, not copied."""
    root = tmp_path / "copy"
    package = root / "steerzo_edge"
    shutil.copytree(ROOT / "steerzo_edge", package, ignore=shutil.ignore_patterns("assets", "__pycache__"))
    (package / "assets").symlink_to(ROOT / "steerzo_edge" / "assets")
    (root / "profiles").symlink_to(ROOT / "profiles")
    return root


def add_line(file: Path, after: str, line: str) -> None:
    """Adds one line after the only line that holds `after`."""
    lines = file.read_text(encoding="utf-8").splitlines()
    (place,) = [number for number, text in enumerate(lines) if after in text]
    lines.insert(place + 1, line)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def run_in(root: Path, program: str, *arguments: str) -> str:
    """What a program prints that imports the copy instead of the package."""
    environment = {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{ROOT}", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=root, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
