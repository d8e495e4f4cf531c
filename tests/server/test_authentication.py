"""A server with a key answers no request without one: every route, every method, every way to write a path."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote

import pytest
from fastapi import FastAPI
from starlette.websockets import WebSocketDisconnect
from typer.testing import CliRunner

from server.app import create_app
from server.commands.app import app as command_line
from server.commands.serve import FIRST_KEY, check_keys
from server.settings import Settings
from server.store.database import Database
from server.store.keys import Keys, hashed
from steerzo_edge.errors import ConflictError, InputError, NotFoundError
from tests.server.access import KEY, app_in, client_of, context_of, keys_of, statuses

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "get")
# Of the page, which has many files, all treated alike.
OPEN = ("/", "/page/js/main.js")
OTHERS = (
    "/docs",
    "/redoc",
    "/openapi.json",
    "/docs/oauth2-redirect",
    "/metrics",
    "/nowhere",
    "/v1",
    "/v1/models",
    "/v1/chat/completions",
    "/favicon.ico",
    "/static/index.html",
    "/page",
    "/page/",
    "/page/index.html",
    "/page/js/nothing.js",
    "/page/js/../../settings.py",
    "/page/%2e%2e/settings.py",
    *OPEN,
    "/.env",
    "*",
)


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    # These tests send more requests a second than the default rate limit allows.
    return app_in(tmp_path_factory.mktemp("closed"), api_key=KEY, request_burst=1_000_000)


@pytest.fixture(scope="module")
def paths(closed: FastAPI) -> list[str]:
    """Every path of the app and every other way to write it."""
    plain = [path.replace("{", "").replace("}", "") for path in closed.openapi()["paths"]] + list(OTHERS)
    assert len(plain) > 20
    found = []
    for path in plain:
        found += [path, f"{path}/", f"/{path}", f"//{path}", path.upper(), path.replace("/", "/./"), f"{path}%00"]
        found += [f"/healthz/..{path}", f"/healthz/%2e%2e{path}", f"/healthz%2f..{path}", f"{path}?x=/healthz"]
        found += [f"/healthz;{path}", f"{path}#/healthz", path.replace("/", "%2f"), path.replace("/", "\\")]
    return found


@pytest.mark.long
def test_every_route_is_closed(closed: FastAPI, paths: list[str]) -> None:
    revoked = keys_of(closed).create("revoked")
    keys_of(closed).revoke("revoked")
    asked = [(method, path) for path in paths for method in METHODS]
    for key in (None, "wrong", revoked):
        answers = zip(asked, statuses(closed, key, asked), strict=True)
        open_ways = [(method, path) for (method, path), status in answers if status != 401]
        # Only the public routes themselves answer, with whatever they have to say to this method.
        public = {"/healthz", "/readyz", *OPEN}
        assert {unquote(path.partition("?")[0]) for _, path in open_ways} == public, open_ways[:20]


def test_the_check_of_all_routes_notices_an_open_one(closed: FastAPI, paths: list[str]) -> None:
    assert 401 not in statuses(closed, KEY, [("GET", path) for path in paths])


@pytest.mark.parametrize(
    "given",
    [
        "",
        "Bearer",
        "Bearer ",
        f"Basic {KEY}",
        f"Token {KEY}",
        KEY,
        f"Bearer {KEY}x",
        f"Bearer {KEY[:-1]}",
        f"Bearer {KEY.upper()}",
        f"Bearer {hashed(KEY)}",
        f"Bearer Bearer {KEY}",
        "Bearer \xff\xfe",
    ],
)
def test_headers_that_do_not_hold_a_key(closed: FastAPI, given: str) -> None:
    response = client_of(closed).get("/jobs", headers=cast(Any, {"Authorization": given.encode("latin-1")}))
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert response.json()["code"] == "unauthorized"


def test_the_right_key_is_accepted(closed: FastAPI) -> None:
    for scheme in ("Bearer", "bearer", "BEARER"):
        response = client_of(closed).get("/jobs", headers={"Authorization": f"{scheme} {KEY}"})
        assert response.status_code == 200


def test_no_websocket_is_opened(closed: FastAPI) -> None:
    with (
        pytest.raises(WebSocketDisconnect) as refused,
        client_of(closed, KEY).websocket_connect("/jobs", headers={"Host": "127.0.0.1:8000"}),
    ):
        pass
    assert refused.value.code == 1008


def test_the_wrong_key_under_v1_is_an_error_of_its_kind(closed: FastAPI) -> None:
    response = client_of(closed, "wrong").get("/v1/models")
    assert response.status_code == 401
    assert response.json()["error"]["code"] == "invalid_api_key"


def test_keys_come_and_go_while_the_server_runs(tmp_path: Path) -> None:
    app = app_in(tmp_path)

    def steerzo_keys(*words: str) -> str:
        done = CliRunner().invoke(command_line, ["keys", *words, "--data-dir", str(tmp_path / "data")])
        assert done.exit_code == 0, done.output
        return done.stdout.strip()

    assert client_of(app).get("/jobs").status_code == 200  # on loopback, before there is a key
    ann, ben = steerzo_keys("create", "ann"), steerzo_keys("create", "ben")
    assert client_of(app).get("/jobs").status_code == 401
    assert client_of(app, ann).get("/jobs").status_code == 200
    assert client_of(app, ben).get("/jobs").status_code == 200
    steerzo_keys("revoke", "ann")
    assert client_of(app, ann).get("/jobs").status_code == 401
    assert client_of(app, ben).get("/jobs").status_code == 200
    steerzo_keys("revoke", "ben")
    # The last key is revoked, and the server still requires one.
    assert client_of(app).get("/jobs").status_code == 401
    listed = steerzo_keys("list").splitlines()
    assert [line.split()[0] for line in listed] == ["ann", "ben"]
    assert all("revoked" in line for line in listed)
    assert ann not in "".join(listed)


def test_invalid_key_commands_are_refused(tmp_path: Path) -> None:
    database = Database(tmp_path / "steerzo.sqlite")
    keys = Keys(database, fixed=KEY)
    keys.create("ann")
    with pytest.raises(ConflictError):
        keys.create("ann")
    for name in ("", "../x", "a b", "STEERZO_API_KEY", "x" * 65, "a\n"):
        with pytest.raises(InputError):
            keys.create(name)
    with pytest.raises(NotFoundError):
        keys.revoke("ben")
    keys.revoke("ann")
    revoked = keys.all()[0].revoked
    keys.revoke("ann")
    assert keys.all()[0].revoked == revoked
    database.close()


def test_keys_are_hashed_at_rest_and_long(tmp_path: Path) -> None:
    database = Database(tmp_path / "steerzo.sqlite")
    keys = Keys(database)
    made = [keys.create(f"key-{index}") for index in range(20)]
    assert len(set(made)) == 20
    assert all(len(key.removeprefix("steerzo_")) == 43 for key in made)  # 32 bytes
    assert [keys.holder(key) for key in made] == [f"key-{index}" for index in range(20)]
    database.close()
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert not any(key.encode() in stored or key[8:].encode() in stored for key in made)
    with contextlib.closing(sqlite3.connect(tmp_path / "steerzo.sqlite")) as raw:
        assert {row[0] for row in raw.execute("SELECT hash FROM keys")} == {hashed(key) for key in made}


def test_every_hash_is_compared_in_constant_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import hmac

    database = Database(tmp_path / "steerzo.sqlite")
    keys = Keys(database, fixed=KEY)
    first = keys.create("first")
    keys.create("second")
    compared = []
    real = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append((a, b)) or real(a, b))
    for key in (first, KEY, "wrong"):
        compared.clear()
        keys.holder(key)
        assert len(compared) == 3
        assert {given for given, _ in compared} == {hashed(key)}
    database.close()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    found = Database(tmp_path / "steerzo.sqlite")
    yield found
    found.close()


def test_a_public_address_without_a_key_is_refused(database: Database) -> None:
    for host in ("0.0.0.0", "::", "192.168.1.5", "example.org"):
        with pytest.raises(InputError, match="no valid API key") as refused:
            check_keys(Settings(host=host), database)
        assert "steerzo keys create" in refused.value.hint
    for host in ("127.0.0.1", "127.1.2.3", "::1", "localhost"):
        check_keys(Settings(host=host), database)
    check_keys(Settings(host="0.0.0.0", api_key=KEY), database)
    Keys(database).create("ann")
    check_keys(Settings(host="0.0.0.0"), database)


def test_a_key_is_made_and_shown_once_where_that_is_asked_for(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(host="0.0.0.0", make_key=True)
    caplog.set_level("WARNING")
    check_keys(settings, database)
    key = caplog.messages[0].split()[-1]
    assert Keys(database).holder(key) == FIRST_KEY
    caplog.clear()
    check_keys(settings, database)
    assert not caplog.messages
    # After the last key is revoked the server stays closed; a restart makes no new key.
    Keys(database).revoke(FIRST_KEY)
    with pytest.raises(InputError, match="no valid API key"):
        check_keys(settings, database)


def test_a_public_server_is_closed_even_if_its_keys_are_lost(tmp_path: Path) -> None:
    app = create_app(Settings(host="0.0.0.0", data_dir=tmp_path / "data"))
    assert client_of(app).get("/jobs").status_code == 401
    assert context_of(app).lock.is_held
