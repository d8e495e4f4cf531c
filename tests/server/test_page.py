"""The page's files: small, the same for everybody, under a strict policy."""

import re
from pathlib import Path

import pytest
from fastapi import FastAPI

from server.routes.page_files import PAGE_DIRECTORY, page_files
from tests.server.access import KEY, app_in, client_of

MOST_BYTES = 300_000


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    return app_in(tmp_path_factory.mktemp("page"), api_key=KEY)


def test_the_page_is_small() -> None:
    assert sum(len(file.body) for file in page_files().values()) < MOST_BYTES


def test_every_file_is_served_and_nothing_else(app: FastAPI) -> None:
    files = [path for path in PAGE_DIRECTORY.rglob("*") if path.is_file()]
    assert len(page_files()) == len(files)
    for path, file in page_files().items():
        response = client_of(app).get(path)
        assert response.status_code == 200
        assert response.content == file.body
        assert response.headers["content-type"] == file.media_type
    for path in (
        "/page/index.html",
        "/page/",
        "/page/js",
        "/page/../app.py",
        "/page/%2e%2e/app.py",
        "/page//etc/passwd",
    ):
        assert client_of(app, KEY).get(path).status_code == 404


def test_the_content_policy_allows_only_the_servers_own_files(app: FastAPI) -> None:
    for path in ("/", "/page/js/main.js"):
        headers = client_of(app).get(path).headers
        policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert policy["frame-ancestors"] == "'none'"
        for kind in ("script-src", "style-src", "connect-src", "img-src"):
            assert policy[kind] == "'self'"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "unsafe" not in headers["content-security-policy"]


def test_nothing_is_inline_or_from_other_hosts() -> None:
    index = page_files()["/"].body.decode()
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\bon\w+=", index)
    for path, file in page_files().items():
        if "/vendor/" not in path and path.endswith((".js", ".css", "/")):
            text = file.body.decode()
            assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", text), path
            assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text), path


def test_every_file_it_names_is_there() -> None:
    for path, file in page_files().items():
        if "/vendor/" in path or not path.endswith((".js", "/")):
            continue
        text = file.body.decode()
        for name in re.findall(r'(?:src|href)="(/page/[^"]+)"', text):
            assert name in page_files(), (path, name)
        for name in re.findall(r'from "(\.[^"]+)"', text):
            there = "/" + str(
                (PAGE_DIRECTORY / path.removeprefix("/page/"))
                .parent.joinpath(name)
                .resolve()
                .relative_to(PAGE_DIRECTORY)
            )
            assert f"/page{there}" in page_files(), (path, name)


def test_a_cached_file_is_answered_with_304(app: FastAPI) -> None:
    first = client_of(app).get("/page/js/main.js")
    again = client_of(app).get("/page/js/main.js", headers={"If-None-Match": first.headers["etag"]})
    assert again.status_code == 304
    assert again.content == b""
    assert client_of(app).get("/", headers={"If-None-Match": first.headers["etag"]}).status_code == 200
    head = client_of(app).head("/")
    assert head.status_code == 200
    assert head.content == b""


def test_third_party_files_have_their_licence_beside_them() -> None:
    assert "MIT" in page_files()["/page/vendor/uPlot-LICENSE.txt"].body.decode()
    browser = Path(__file__).parent.parent / "browser" / "vendor"
    assert "Mozilla Public License" in (browser / "axe-core-LICENSE.txt").read_text()
