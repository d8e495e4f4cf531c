"""The page about the time of the tests, and the list of slow files that are begun first."""

from pathlib import Path

import tests.conftest
from tests.times import SLOWEST, minutes, page

TESTS = Path(__file__).parents[1]


def test_the_page_names_the_slowest_tests_and_files() -> None:
    seconds = {f"tests/a.py::test_{number}[x|y]": float(number) for number in range(30)} | {
        "tests/b.py::test": 99.0
    }
    lines = page(seconds, {"tests/b.py::test"}, skipped=2, wall_s=250.4, workers=2).splitlines()
    rows = [line for line in lines if line.startswith("| `")]
    assert rows[:2] == ["| `tests/b.py::test` | 99.0 |", "| `tests/a.py::test_29[x/y]` | 29.0 |"]
    assert rows[SLOWEST:] == ["| `tests/a.py` | 30 | 435.0 |", "| `tests/b.py` | 1 | 99.0 |"]
    text = " ".join(lines)
    assert "31 tests ran in 4 min 10 s, by 2 processes side by side; 2 more were skipped" in text
    assert "took 8 min 54 s; 1 min 39 s of that in the 1 marked `long`" in text
    assert "of a processor of type" in text


def test_minutes() -> None:
    assert [minutes(seconds) for seconds in (0.4, 59.6, 3600)] == ["0 s", "1 min 0 s", "60 min 0 s"]


def test_slow_files_exist() -> None:
    for name in tests.conftest.SLOW:
        assert (TESTS / name).is_file(), name
