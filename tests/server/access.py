"""An app in this process, its doors and all, without a base: for what is decided before a base is needed."""

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from fastapi import FastAPI
from starlette.testclient import TestClient

from server.app import create_app
from server.services.context import Context
from server.settings import Settings
from server.store.keys import Keys

URL = "http://127.0.0.1:8000"
KEY = "a-key-of-the-settings"


def app_in(directory: Path, **settings: Any) -> FastAPI:
    return create_app(Settings.model_validate({"data_dir": directory / "data", **settings}))


def client_of(app: FastAPI, key: str | None = None, **options: Any) -> TestClient:
    """Without `with`: nothing is started, so no base is loaded."""
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    options = {"base_url": URL, "client": ("127.0.0.1", 50000), "follow_redirects": False, **options}
    return TestClient(app, headers=headers, **options)


def context_of(app: FastAPI) -> Context:
    context: Context = app.state.context
    return context


def keys_of(app: FastAPI) -> Keys:
    return Keys(context_of(app).database)


def statuses(app: FastAPI, key: str | None, requests: Iterable[tuple[str, str]]) -> list[int]:
    """What an app answers to (method, path) as they are written: any client would tidy the paths up."""

    async def one(method: str, target: str) -> int:
        raw, _, query = target.encode().partition(b"?")
        headers = [(b"host", b"127.0.0.1:8000")]
        if key is not None:
            headers.append((b"authorization", f"Bearer {key}".encode()))
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(raw.decode()),
            "raw_path": raw,
            "query_string": query,
            "root_path": "",
            "headers": headers,
            "client": ("127.0.0.1", 50000),
            "server": ("127.0.0.1", 8000),
            "state": {},
        }
        found: list[int] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                found.append(message["status"])

        await app(scope, receive, send)
        return found[0]

    async def all_of_them() -> list[int]:
        return [await one(method, target) for method, target in requests]

    return asyncio.run(all_of_them())
