"""What the machine cannot do is told as that, on every route and in both kinds of documents."""

import errno
import sqlite3
import time
from collections.abc import Callable

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from server import problems
from server.openai.completion_body import CompletionBody
from steerzo_edge.config import Config
from steerzo_edge.errors import InputError


def _locked() -> Exception:
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    return error


@pytest.mark.parametrize("make", [lambda: OSError(errno.ENOSPC, "full"), lambda: OSError(errno.EIO, "io"), _locked])
def test_a_full_disk_is_507_on_every_route(make: Callable[[], Exception]) -> None:
    client = _failing(make)
    answer = client.get("/x")
    assert (answer.status_code, answer.json()["code"]) == (507, "storage-failed")
    assert client.get("/v1/x").status_code == 507
    assert client.get("/v1/x").json()["error"]["code"] == "storage_failed"


@pytest.mark.parametrize(
    "make",
    [lambda: OSError(errno.ENOENT, "gone", "/secret/path"), lambda: sqlite3.OperationalError("no such table")],
)
def test_an_unexpected_error_is_500_and_shows_no_path(make: Callable[[], Exception]) -> None:
    answer = _failing(make).get("/x")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal-error")
    assert "secret" not in answer.text


def test_many_bad_items_are_told_at_once() -> None:
    app = FastAPI()
    problems.install(app)

    @app.post("/v1/completions")
    def complete(body: CompletionBody) -> None:
        pass

    client = TestClient(app)
    times = []
    for items in (2, 20_000):
        begun = time.process_time()
        answer = client.post("/v1/completions", json={"model": "base", "prompt": [-1] * items})
        times.append(time.process_time() - begun)
        assert answer.status_code == 400
        assert "prompt.1" in answer.text
        assert "greater than or equal to 0" in answer.text
    assert times[1] < 2, times  # minutes, if each error copied the list


def test_of_errors_alike_the_first_are_listed() -> None:
    class Rows(Config):
        rows: list[int]
        other: int

    with pytest.raises(InputError) as caught:
        Rows.parse({"rows": ["a"] * 5000, "other": "b"}, where="rows")
    faults = caught.value.faults
    assert [fault.where for fault in faults] == [
        *(f"rows.{place}" for place in range(100)),
        "other",
        "the same lists",
    ]
    assert "the first 100 are listed" in str(caught.value)


def _failing(make: Callable[[], Exception]) -> TestClient:
    app = FastAPI()
    problems.install(app)

    @app.get("/x")
    @app.get("/v1/x")
    def fail() -> None:
        raise make()

    return TestClient(app, raise_server_exceptions=False)
