"""Adapters are uploaded by the hub's own client, here to a hub of the test's own."""

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from steerzo_edge.errors import ConflictError, InputError
from steerzo_edge.export.push import CARD, push
from steerzo_edge.model.adapter_file import CONFIG, WEIGHTS
from steerzo_edge.run import Run
from steerzo_edge.settings.profile import resolve
from tests.conftest import Loader, labelled_rows
from tests.server.conftest import PROFILE
from tests.unit.commands import steerzo


class Hub:
    """Answers what the client asks for when it makes a repository and commits to it."""

    def __init__(self) -> None:
        self.private: bool | None = None
        self.files: dict[str, bytes] = {}
        self.tokens: set[str | None] = set()
        self.refuses = False
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.answer({"id": "me/intents", "private": hub.private, "sha": "0" * 40})

            def do_POST(self) -> None:
                hub.tokens.add(self.headers["authorization"])
                body = self.rfile.read(int(self.headers["content-length"]))
                if hub.refuses and "create" not in self.path:
                    self.answer({"error": "no write access"}, 403)
                else:
                    self.answer(hub.answer(self.path, body))

            def answer(self, said: Any, status: int = 200) -> None:
                data = json.dumps(said).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *values: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, path: str, body: bytes) -> Any:
        if path.startswith("/api/repos/create"):
            asked = json.loads(body)
            if self.private is None:
                self.private = asked.get("private", asked.get("visibility") == "private")
            return {"url": f"{self.url}/me/intents", "id": "me/intents"}
        if "/preupload/" in path:
            files = json.loads(body)["files"]
            modes = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in files]
            return {"files": modes}
        if "/commit/" in path:
            for line in body.decode().splitlines():
                item = json.loads(line)
                if item["key"] == "file":
                    self.files[item["value"]["path"]] = base64.b64decode(item["value"]["content"])
            return {"success": True, "commitUrl": f"{self.url}/me/intents/commit/{'0' * 40}", "commitOid": "0" * 40}
        return {"errors": [], "warnings": []}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_of_a_test")
    made = Hub()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture(scope="module")
def adapter(tiny: Loader, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = Run(tmp_path_factory.mktemp("run"), tiny("nf4"), resolve(PROFILE, {"steps": 2}), labelled_rows(20))
    list(run.records())
    run.close()
    return run.finish().adapter


def test_an_adapter_is_pushed_privately_with_a_card(hub: Hub, adapter: Path) -> None:
    made = push(adapter, "me/intents", base="org/base-1b", endpoint=hub.url)
    assert made.private
    assert hub.private
    assert hub.tokens == {"Bearer hf_of_a_test"}
    assert sorted(hub.files) == [CARD, CONFIG, WEIGHTS]
    assert hub.files[WEIGHTS] == (adapter / WEIGHTS).read_bytes()
    settings = json.loads(hub.files[CONFIG])
    assert settings["base_model_name_or_path"] == "org/base-1b"
    _, head, text = hub.files[CARD].decode().split("---\n", 2)
    assert yaml.safe_load(head) == {
        "base_model": "org/base-1b",
        "library_name": "peft",
        "tags": ["lora", "steerzo-edge"],
    }
    assert "licence of the training data is not known" in text
    assert "| accuracy | 0." in text
    # Nothing says where on this machine it was made.
    assert not [name for name, data in hub.files.items() if str(adapter.parent.parent).encode() in data]


def test_a_repository_that_is_public_is_not_written_to_unless_asked_for(hub: Hub, adapter: Path) -> None:
    hub.private = False
    with pytest.raises(ConflictError, match="is public"):
        push(adapter, "me/intents", base="org/base-1b", endpoint=hub.url)
    assert hub.files == {}
    assert not push(adapter, "me/intents", base="org/base-1b", public=True, endpoint=hub.url).private
    assert hub.files


def test_a_base_that_was_named_may_have_a_folder_of_its_name(
    hub: Hub, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "org" / "base-1b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    push(adapter, "me/intents", base="org/base-1b", endpoint=hub.url)
    assert json.loads(hub.files[CONFIG])["base_model_name_or_path"] == "org/base-1b"


def test_what_cannot_be_pushed_is_refused_in_words(
    hub: Hub, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="does not name its base by an id on the hub"):
        push(adapter, "me/intents", endpoint=hub.url)
    with pytest.raises(InputError, match="is not a name of a repository"):
        push(adapter, "me/intents/x", base="org/base-1b", endpoint=hub.url)
    hub.refuses = True
    with pytest.raises(ConflictError, match="no write access") as raised:
        push(adapter, "me/intents", base="org/base-1b", endpoint=hub.url)
    assert "HF_TOKEN" in raised.value.hint
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    ran = steerzo("push", str(adapter), "me/intents", "--base", "org/base-1b")
    assert ran.exit_code == 1
    assert "offline" in ran.output
