"""Names that are not the server's and pages that are not: refused before anything is looked at."""

from pathlib import Path

import pytest
from fastapi import FastAPI

from server.access.origins import name_of
from server.settings import from_environment
from tests.server.access import KEY, app_in, client_of


@pytest.fixture(scope="module")
def loopback(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    return app_in(tmp_path_factory.mktemp("names"), allowed_hosts=["steerzo.lan"])


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("127.0.0.1", True),
        ("127.0.0.1:8000", True),
        ("localhost:9", True),
        ("LocalHost.", True),
        ("[::1]:8000", True),
        ("steerzo.lan", True),
        ("evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example", False),
        ("127.0.0.1@evil.example", False),
        ("evil.example:127.0.0.1", False),
        ("192.168.1.5", False),
        ("[::1", False),
        ("[::1]x", False),
        ("", False),
        ("localhost:80:80", False),
    ],
)
def test_only_its_own_names_are_answered_to(loopback: FastAPI, host: str, ours: bool) -> None:
    for path in ("/jobs", "/healthz", "/nowhere"):
        response = client_of(loopback).get(path, headers={"Host": host})
        assert (response.status_code == 421) != ours
        if not ours:
            assert response.json()["code"] == "unknown-host"


def test_a_wildcard_answers_to_addresses_but_not_to_names(tmp_path: Path) -> None:
    app = app_in(tmp_path, host="0.0.0.0", api_key=KEY, allowed_hosts=["my.lan"])
    for host, status in {
        "192.168.1.5:8000": 200,
        "[2001:db8::1]:8000": 200,
        "localhost": 200,
        "my.lan": 200,
        "evil.example": 421,
        "0x7f.1.evil.example": 421,
    }.items():
        assert client_of(app, KEY).get("/jobs", headers={"Host": host}).status_code == status


def test_a_bound_address_is_a_name(tmp_path: Path) -> None:
    app = app_in(tmp_path, host="192.168.1.5", api_key=KEY)
    for host, status in {"192.168.1.5:8000": 200, "192.168.1.6:8000": 421}.items():
        assert client_of(app, KEY).get("/jobs", headers={"Host": host}).status_code == status


def test_two_host_headers_are_refused(loopback: FastAPI) -> None:
    response = client_of(loopback).get("/jobs", headers=[("Host", "localhost"), ("Host", "evil.example")])
    assert response.status_code == 421


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({}, True),
        ({"Origin": "http://127.0.0.1:8000"}, True),
        ({"Origin": "http://127.0.0.1:8000", "Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Origin": "http://evil.example"}, False),
        ({"Origin": "http://127.0.0.1:3000"}, False),
        ({"Origin": "http://localhost:8000"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": ""}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Origin": "http://127.0.0.1:8000", "Sec-Fetch-Site": "cross-site"}, False),
    ],
)
def test_requests_from_other_origins_are_refused(loopback: FastAPI, headers: dict[str, str], allowed: bool) -> None:
    client = client_of(loopback)
    for method, path in (("POST", "/jobs"), ("DELETE", "/jobs/x"), ("POST", "/generate"), ("PUT", "/jobs")):
        response = client.request(method, path, headers=headers)
        assert (response.status_code != 403) == allowed, response.text
        if not allowed:
            assert response.json()["code"] == "foreign-origin"
    # What changes nothing is answered; without a CORS header the page cannot read it.
    assert client.get("/jobs", headers=headers).status_code == 200


def test_no_answer_ever_allows_another_origin(loopback: FastAPI) -> None:
    asks = {
        "Origin": "http://evil.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    for method in ("OPTIONS", "GET", "POST"):
        for path in ("/jobs", "/generate", "/healthz", "/v1/models"):
            response = client_of(loopback).request(method, path, headers=asks)
            assert not [name for name in response.headers if name.startswith("access-control")]


def test_every_answer_carries_the_headers(loopback: FastAPI) -> None:
    for method, path in (
        ("GET", "/jobs"),
        ("GET", "/healthz"),
        ("GET", "/docs"),
        ("GET", "/nowhere"),
        ("POST", "/jobs"),
        ("DELETE", "/healthz"),
    ):
        headers = client_of(loopback).request(method, path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["cache-control"] == "no-store"
        assert headers["x-request-id"].startswith("req_")
    assert "server" not in headers


def test_the_page_of_routes_runs_nothing_and_escapes_everything(loopback: FastAPI) -> None:
    page = client_of(loopback).get("/docs").text
    assert "POST /jobs" in page
    assert "<script" not in page
    assert "http://" not in page.replace("http://127.0.0.1", "")
    assert "src=" not in page


def test_names_are_settings() -> None:
    settings = from_environment({"STEERZO_ALLOWED_HOSTS": "a.lan, b.lan,"})
    assert settings.allowed_hosts == ("a.lan", "b.lan")


def test_a_name_is_what_is_left_without_the_port() -> None:
    assert [name_of(host) for host in ("A.lan:1", "[FE80::1]:1", "a.lan:x", " b.lan ")] == [
        "a.lan",
        "fe80::1",
        "",
        "b.lan",
    ]
