"""One server for the tests that do not kill it."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from fastapi.testclient import TestClient
from openai import OpenAI

from server.app import create_app
from server.commands.client import Client
from server.services.context import Context
from server.settings import Settings
from steerzo_edge.settings.sections import ModelConfig
from tests.conftest import Loader, labelled_rows
from tests.peft_directory import lora_files, zip_of
from tests.server.process import ServerProcess
from tests.server.tool_base import tool_base
from tests.server.webhook_desk import desks, receiver  # noqa: F401 - fixtures

TASK = {"template": "{text} => ", "options": {"ok": "y", "no": "n"}}
PROFILE = {
    "subset": {"kind": "lora", "rank": 2},
    "method": {"kind": "all-losses", "pool": 4, "epsilon": 0.01},
    "rule": {"kind": "momentum", "learning_rate": 0.02},
    "batch": {"examples": 4, "max_tokens": 64},
    "steps": 12,
    "evaluate": {"every": 5, "holdout": 0.25},
}


@pytest.fixture(scope="session")
def rows_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in labelled_rows(40).rows()))
    return path


@pytest.fixture(scope="session")
def server(tiny_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    data = tmp_path_factory.mktemp("server") / "data"
    with ServerProcess(tiny_path, data, MAX_BODY_BYTES="200000") as process:
        process.start()
        yield process
        assert process.stop() == 0, process.log.read_text()


@pytest.fixture(scope="session")
def guarded(tiny_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with a key, that tells everything it tells."""
    settings = {"API_KEY": "the-key-of-the-guarded", "LOG_FORMAT": "json", "LOG_LEVEL": "debug"}
    data = tmp_path_factory.mktemp("guarded") / "data"
    with ServerProcess(tiny_path, data, MAX_BODY_BYTES="200000", **settings) as process:
        process.start()
        yield process
        assert process.stop() == 0, process.log.read_text()


@pytest.fixture(scope="session")
def client(server: ServerProcess) -> Client:
    return server.client


@pytest.fixture(scope="session")
def dataset(client: Client, rows_file: Path) -> str:
    return str(client.upload(rows_file, "rows")["id"])


@pytest.fixture(scope="session")
def job(client: Client, dataset: str) -> dict[str, object]:
    """A job that has succeeded."""
    from tests.server.process import finished

    posted = client.post("/jobs", {"dataset": dataset, "profile": PROFILE, "task": TASK, "name": "first"})
    done = finished(client, posted["id"])
    assert done["state"] == "succeeded", done["error"]
    return done


@pytest.fixture(scope="module")
def http(tiny_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """An app in this process, for datasets of at most 300 kB."""
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("datasets"),
        model=ModelConfig(id=str(tiny_path), quantization="none"),
        max_upload_bytes=300_000,
        max_body_bytes=20_000,
    )
    with TestClient(create_app(settings), base_url="http://127.0.0.1:8000") as client:
        deadline = time.monotonic() + 60
        while client.get("/readyz").status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield client


@pytest.fixture
def context(http: TestClient) -> Context:
    return http.app.state.context  # type: ignore[attr-defined,no-any-return]


@pytest.fixture(scope="module")
def openai(server: ServerProcess) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="none asked for", max_retries=0) as client:
        yield client


@pytest.fixture(scope="session")
def tool_server(tiny_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server whose base calls tools."""
    path = tmp_path_factory.mktemp("tools")
    with ServerProcess(tool_base(tiny_path, path / "base"), path / "data") as process:
        process.start()
        yield process


@pytest.fixture(scope="module")
def tools(tool_server: ServerProcess) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"http://127.0.0.1:{tool_server.port}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def base(openai: OpenAI) -> str:
    return next(model.id for model in openai.models.list() if not model.id.startswith("ft:"))


@pytest.fixture(scope="module")
def file(openai: OpenAI, tmp_path_factory: pytest.TempPathFactory) -> str:
    from tests.server.openai_jobs import ROWS

    path = tmp_path_factory.mktemp("openai") / "turns.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    with path.open("rb") as rows:
        return openai.files.create(file=rows, purpose="fine-tune").id


@pytest.fixture(scope="module")
def uploaded(client: Client, tiny: Loader) -> Iterator[str]:
    """The id of an uploaded adapter, which answers otherwise than the base."""
    data = zip_of(lora_files(tiny("none", torch.float32), 4, seed=9))
    made = client.http.post("/adapters", files={"file": ("uploaded.zip", data)})
    assert made.status_code == 201, made.text
    yield made.json()["id"]
    client.http.delete(f"/adapters/{made.json()['id']}")
