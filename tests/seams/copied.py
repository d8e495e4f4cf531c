"""A copy of the package that a test may extend, as a contributor would: one new file, one edited line."""

import os
import shutil
from pathlib import Path

from tests.forked import forks

ROOT = Path(__file__).parents[2]


def copied_package(tmp_path: Path) -> Path:
    """Copies `steerzo_edge`; its assets and the profiles are linked, not copied.

    Returns:
        The directory that holds the copy, for `PYTHONPATH`; the package is `steerzo_edge` in it.
    """
    root = tmp_path / "copy"
    package = root / "steerzo_edge"
    shutil.copytree(ROOT / "steerzo_edge", package, ignore=shutil.ignore_patterns("assets", "__pycache__"))
    (package / "assets").symlink_to(ROOT / "steerzo_edge" / "assets")
    (root / "profiles").symlink_to(ROOT / "profiles")
    return root


def add_line(file: Path, after: str, line: str) -> None:
    """Adds a line, indented as given, below the only line that contains `after`."""
    lines = file.read_text(encoding="utf-8").splitlines()
    (place,) = [number for number, text in enumerate(lines) if after in text]
    lines.insert(place + 1, line)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def run_in(root: Path, program: str, *arguments: str) -> str:
    """Runs a Python program that imports the copy instead of the package.

    Returns:
        What the program wrote to standard output.
    """
    # The repository comes second, for the packages that are not copied.
    environment = {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{ROOT}", "HF_HUB_OFFLINE": "1"}
    done = forks().run(program, *arguments, environment=environment, directory=root, timeout_s=300)
    assert done.returncode == 0, done.stderr
    return done.stdout
