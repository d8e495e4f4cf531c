"""One server for the tests that do not kill it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.commands.client import Client
from tests.conftest import labelled_rows
from tests.server.process import ServerProcess

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
