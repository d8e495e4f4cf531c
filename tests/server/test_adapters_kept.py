"""Uploaded adapters are there again after a kill, and leave nothing half written."""

import json
from pathlib import Path

import torch

from tests.conftest import Loader
from tests.peft_directory import lora_files, zip_of
from tests.server.process import ServerProcess
from tests.server.test_adapters import text_of


def test_uploads_outlive_the_server(tiny_path: Path, tiny: Loader, tmp_path: Path) -> None:
    base = tiny("none", torch.float32)
    files = lora_files(base, 4, seed=13)
    with ServerProcess(tiny_path, tmp_path / "data", MAX_ADAPTERS="1", ADAPTER_MEMORY_MIB="1") as server:
        client = server.start()
        sent = {"file": ("mine.zip", zip_of(files))}
        row = client.http.post("/adapters", files=sent).json()
        before = text_of(client, "mine")
        assert client.get("/adapters/mine")["loaded"]
        sent = {"file": ("other.zip", zip_of(lora_files(base, 2)))}
        full = client.http.post("/adapters", files=sent)
        assert (full.status_code, json.loads(full.text)["code"]) == (507, "no-room")
        server.kill()
        (tmp_path / "data" / "adapters" / ".killed.partial").mkdir()
        client = server.start()
        assert text_of(client, "mine") == before
        assert [path.name for path in (tmp_path / "data" / "adapters").iterdir()] == [row["id"]]
        assert server.stop() == 0
