"""Estimates beside measured peaks on real bases: the cases, a run on the bundled base, the table."""

from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from benchmarks.estimate_error_real import MIB, REAL_CASES, RealCase, _in_child, markdown, summary
from steerzo_edge.model.load import default_device

NAMES = ("layers", "examples", "pool", "memory", "rows")


def test_every_pair_of_values_occurs() -> None:
    assert len({case.title for case in REAL_CASES}) == len(REAL_CASES)
    for first, second in combinations(NAMES, 2):
        values = [{getattr(case, name) for case in REAL_CASES} for name in (first, second)]
        found = {(getattr(case, first), getattr(case, second)) for case in REAL_CASES}
        assert len(found) == len(values[0]) * len(values[1]), (first, second)


@pytest.mark.long
@pytest.mark.skipif(default_device() != "cpu", reason="the resident set is measured")
def test_a_run_on_the_bundled_base() -> None:
    """In a fresh process; the heap differs from run to run, so this sees only what is forgotten altogether."""
    found = _in_child(RealCase("quarter", 8, 4, "lean", "sst2"), Path("bundled"))
    assert found["parts"]["base weights"] < found["loaded"] < found["peak"]
    assert found["estimated"] == sum(found["parts"].values())
    assert abs(found["error"]) < 0.5, found
    assert found["plan"]["frugal"]


def test_the_summary() -> None:
    rows: list[dict[str, Any]] = [
        {"base": "small", "title": "one", "estimated": 110 * MIB, "peak": 100 * MIB, "error": 0.1},
        {"base": "small", "title": "two", "estimated": 70 * MIB, "peak": 100 * MIB, "error": -0.3},
        {"base": "large", "title": "one", "estimated": 100 * MIB, "peak": 100 * MIB, "error": 0.0},
    ]
    assert summary(rows) == (
        "small: 1 of 2 within 15 %; median error 20.0%, largest 30.0%. "
        "large: 1 of 1 within 15 %; median error 0.0%, largest 0.0%."
    )
    assert "| small | two | 70 | 100 | -30.0% |" in markdown(rows)
