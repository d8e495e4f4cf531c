"""Submissions wait in a row, each for a bounded time."""

import pytest

from server.services.submit_throttle import BURST, LONGEST_WAIT_S, PER_SECOND, SubmitThrottle
from steerzo_edge.errors import BusyError


def test_a_burst_passes_and_further_requests_wait() -> None:
    now = [1000.0]
    pace = SubmitThrottle(clock=lambda: now[0])
    waits = [pace.wait_s() for _ in range(BURST + 4)]
    assert waits[: BURST + 1] == [0.0] * (BURST + 1)
    assert waits[BURST + 1 :] == pytest.approx([1 / PER_SECOND, 2 / PER_SECOND, 3 / PER_SECOND])
    now[0] += 1000
    assert [pace.wait_s() for _ in range(BURST + 1)] == [0.0] * (BURST + 1)


def test_a_request_waits_at_most_half_a_minute() -> None:
    pace = SubmitThrottle(clock=lambda: 1000.0)
    most = int(BURST + LONGEST_WAIT_S * PER_SECOND) + 1
    assert max(pace.wait_s() for _ in range(most)) <= LONGEST_WAIT_S
    with pytest.raises(BusyError, match="waiting already"):
        pace.wait_s()
