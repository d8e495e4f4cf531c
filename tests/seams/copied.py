"""A copy of the package that a test may extend, as a contributor would extend the repository."""

import shutil
from pathlib import Path

ROOT = Path(__file__).parents[2]


def copied_package(tmp_path: Path) -> Path:
    """Copies `steerzo_edge` without its assets, which are linked; returns the directory for PYTHONPATH."""
    copy = tmp_path / "copy"
    package = ROOT / "steerzo_edge"
    shutil.copytree(package, copy / "steerzo_edge", ignore=shutil.ignore_patterns("assets", "__pycache__"))
    (copy / "steerzo_edge" / "assets").symlink_to(package / "assets")
    return copy


def add_line(file: Path, after: str, line: str) -> None:
    """Adds one line to a file, after the only line that equals `after`, whitespace at both ends aside."""
    lines = file.read_text().splitlines()
    places = [number for number, other in enumerate(lines) if other.strip() == after.strip()]
    assert len(places) == 1, f"{file}: {after!r} is there {len(places)} times"
    lines.insert(places[0] + 1, line)
    file.write_text("\n".join(lines) + "\n")
