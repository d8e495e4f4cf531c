"""A copy of the engine's package that a test may add files and lines to."""

import shutil
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "steerzo_edge"


def copied_package(tmp_path: Path) -> Path:
    """Copies `steerzo_edge` into a directory, its assets as a link; returns the copy.

    Args:
        tmp_path: What PYTHONPATH must begin with, so that the copy is imported.
    """
    copy = tmp_path / "steerzo_edge"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("assets", "__pycache__"))
    (copy / "assets").symlink_to(PACKAGE / "assets")
    return copy


def add_line(file: Path, after: str, line: str) -> None:
    """Adds a line to a file.

    Args:
        file: What is changed.
        after: The line before the new one, which occurs once; blanks around it are not compared.
        line: The new line, with its own blanks.
    """
    lines = file.read_text().splitlines()
    (place,) = (index for index, old in enumerate(lines) if old.strip() == after.strip())
    file.write_text("\n".join([*lines[: place + 1], line, *lines[place + 1 :], ""]))
