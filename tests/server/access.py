"""An app in this process, its doors and all, without a base: for what is decided before a base is needed."""

from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.testclient import TestClient

from server.access.keys import Keys
from server.app import create_app
from server.context import Context
from server.settings import Settings

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
