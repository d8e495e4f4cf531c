"""What unit tests share."""

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Loader
from tests.unit.runner_box import Box, Clock

SCORERS = "checksum=tests.scorers:checksum, some=tests.scorers:fails_on_some,none=tests.scorers:gives_no_number"


@pytest.fixture(autouse=True)
def rows_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job's rows are read within the time slice that asks for them, so that tests can count time slices."""

    def at_once(call: Callable[[], Any]) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(call())
        except Exception as error:
            future.set_exception(error)
        return future

    monkeypatch.setattr("server.jobs.runner.in_background", at_once)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def box(tmp_path: Path, tiny: Loader, clock: Clock) -> Box:
    return Box(tmp_path / "data", tiny("nf4"), clock)


@pytest.fixture
def registered_scorers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The functions of `tests/scorers.py`, registered as an operator would register them."""
    monkeypatch.setenv("STEERZO_SCORERS", SCORERS + ",sees=tests.scorers:sees")
