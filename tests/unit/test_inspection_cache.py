"""Checks are not made twice, and leave time for what runs."""

import pytest

from server.services.inspection_cache import KEPT, LONGEST_PAUSE_S, InspectionCache


class Time:
    def __init__(self) -> None:
        self.now = 100.0
        self.rests: list[float] = []

    def rest(self, seconds: float) -> None:
        self.rests.append(seconds)
        self.now += seconds


def test_a_result_is_cached() -> None:
    checks, calls = InspectionCache[str | None](pause=lambda seconds: None), []
    for key in ("a", "b", "a", "a", "b"):
        assert checks.once(key, lambda: calls.append(key) or f"found {key}") == f"found {key}"  # noqa: B023
    assert calls == ["a", "b"]


def test_a_failure_is_not_cached() -> None:
    checks = InspectionCache[str | None](pause=lambda seconds: None)

    def wrong() -> str | None:
        raise ValueError("bad rows")

    for _ in range(2):
        with pytest.raises(ValueError, match="bad rows"):
            checks.once("a", wrong)
    assert checks.once("a", lambda: None) is None


@pytest.mark.parametrize(("spent", "rest"), [(0.01, 0.04), (0.1, 0.4), (60.0, LONGEST_PAUSE_S)])
def test_the_wait_is_proportional_to_the_last_duration(spent: float, rest: float) -> None:
    time = Time()
    checks = InspectionCache[str | None](clock=lambda: time.now, pause=time.rest)

    def slow() -> str | None:
        time.now += spent
        return None

    checks.once("a", slow)
    checks.once("b", slow)
    checks.once("b", slow)
    assert time.rests == [0.0, pytest.approx(rest)]
    time.now += 100
    checks.once("c", slow)
    assert time.rests[-1] == 0


def test_the_cache_is_bounded() -> None:
    checks = InspectionCache[str | None](pause=lambda seconds: None)
    for number in range(KEPT + 10):
        checks.once(str(number), lambda: None)
    assert len(checks._found) == KEPT
