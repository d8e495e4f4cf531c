"""What the machine cannot do is told as that, on every route and in both kinds of documents."""

import errno
import sqlite3
from collections.abc import Callable

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from server import problems


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


def _failing(make: Callable[[], Exception]) -> TestClient:
    app = FastAPI()
    problems.install(app)

    @app.get("/x")
    @app.get("/v1/x")
    def fail() -> None:
        raise make()

    return TestClient(app, raise_server_exceptions=False)
