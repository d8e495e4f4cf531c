"""A copy of the package to extend, and a process that runs with it: tests here add one file and one line."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def copied_package(tmp_path: Path) -> Path:
    """Copies `steerzo_edge`; large or unchanged files (its assets, the profiles) are linked.

    Returns:
        The directory of the copy.
    """
    package = tmp_path / "steerzo_edge"
    shutil.copytree(ROOT / "steerzo_edge", package, ignore=shutil.ignore_patterns("__pycache__", "assets"))
    (package / "assets").symlink_to(ROOT / "steerzo_edge" / "assets")
    (tmp_path / "profiles").symlink_to(ROOT / "profiles")
    return package


def add_line(file: Path, after: str, line: str) -> None:
    """Adds a line below the only line that reads `after`, with the same indentation."""
    lines = file.read_text().split("\n")
    (place,) = (index for index, text in enumerate(lines) if text.strip() == after)
    indentation = lines[place][: len(lines[place]) - len(lines[place].lstrip())]
    lines.insert(place + 1, indentation + line)
    file.write_text("\n".join(lines))


def run_with(package: Path, program: str, *arguments: str) -> str:
    """Runs a Python program with the copy in place of the package.

    Returns:
        What the program wrote to standard output.
    """
    # The repository comes second, for the packages that are not copied.
    environment = os.environ | {
        "PYTHONPATH": f"{package.parent}{os.pathsep}{ROOT}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "HF_HUB_OFFLINE": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=package.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
