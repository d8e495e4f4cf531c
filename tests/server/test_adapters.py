"""Adapters over HTTP: uploaded, listed, renamed, named in requests, fetched, deleted; and talked to."""

import io
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gguf
import httpx
import pytest
import torch
from openai import NotFoundError as OpenAINotFound
from openai import OpenAI
from transformers import AutoModelForCausalLM

from server.commands.client import Client
from steerzo_edge.model.base import Base
from tests.conftest import Loader
from tests.peft_directory import lora_files, zip_of
from tests.server.process import ServerProcess

MADE_UP = "ad_0123456789abcdef"


@pytest.fixture(scope="module")
def base(tiny: Loader) -> Base:
    return tiny("none", torch.float32)


@pytest.fixture
def post(client: Client) -> Iterator[Any]:
    """Uploads, and takes away what was kept."""
    made = []

    def upload(data: bytes, file: str = "mine.zip", **fields: str) -> httpx.Response:
        response = client.http.post("/adapters", files={"file": (file, data)}, data=fields)
        if response.status_code == 201:
            made.append(response.json()["id"])
        return response

    yield upload
    for id in set(made):
        assert client.http.delete(f"/adapters/{id}").status_code in (204, 404)


def text_of(client: Client, adapter: str | None) -> str:
    body = {"prompt": "good and warm 3 => ", "max_new_tokens": 12, "adapter": adapter}
    return str(client.post("/generate", body)["text"])


def test_a_zip_and_two_files_are_the_same_adapter(client: Client, base: Base, post: Any) -> None:
    files = lora_files(base, 4, seed=1)
    first = post(zip_of(files, "checkpoint-7/"), "my lora (1).zip")
    assert first.status_code == 201, first.text
    row = first.json()
    assert first.headers["location"] == f"/adapters/{row['id']}"
    assert row["name"] == "my lora -1-"
    assert (row["source"], row["job"], row["rank"], row["alpha"]) == ("upload", None, 4, 8)
    assert row["targets"] == ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
    config = files["adapter_config.json"].decode()
    again = post(files["adapter_model.safetensors"], "adapter_model.safetensors", config=config)
    assert (again.status_code, again.json()["id"]) == (201, row["id"])
    other = post(files["adapter_model.safetensors"], "adapter_model.safetensors", config=config, name="another")
    assert other.json()["id"] != row["id"]
    assert post(zip_of(lora_files(base, 4, seed=2)), name="another").status_code == 409
    assert post(zip_of(lora_files(base, 4, seed=2)), "another.zip").json()["name"] == "another-2"
    for name in ("../x", "latest", "", "x" * 101, "é"):
        status = post(zip_of(lora_files(base, 4, seed=3)), name=name).status_code
        assert status == {"latest": 409, "": 201}.get(name, 422), name


def test_ranks_and_targets_may_differ_and_each_answers_as_itself(client: Client, base: Base, post: Any) -> None:
    names = [None]
    for rank, target in ((1, ""), (4, "q_proj"), (32, "mlp.down_proj")):
        names.append(post(zip_of(lora_files(base, rank, target, seed=rank, lora_alpha=64.0))).json()["id"])
    alone = [text_of(client, name) for name in names]
    assert len(set(alone)) == 4
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda name: text_of(client, name), names * 4)) == alone * 4


def test_one_adapter_has_many_names(client: Client, job: dict[str, Any], base: Base, post: Any) -> None:
    listed = client.get("/adapters")["adapters"]
    (row,) = [row for row in listed if row["job"] == job["id"]]
    assert client.get(f"/jobs/{job['id']}")["adapter"]["sha256"] == row["sha256"]
    assert {text_of(client, name) for name in (job["id"], "first", row["id"])} == {text_of(client, job["id"])}
    assert client.get("/adapters/first") == client.get(f"/adapters/{job['id']}")
    renamed = client.http.patch(f"/adapters/{row['id']}", json={"name": "intents v2"})
    assert (renamed.status_code, renamed.json()["name"]) == (200, "intents v2")
    assert text_of(client, "intents v2") == text_of(client, "first")
    uploaded = post(zip_of(lora_files(base))).json()["id"]
    refused = {"intents v2": 409, "first": 409, job["id"]: 409, "latest": 409, "a/b": 422}
    for name, status in refused.items():
        assert client.http.patch(f"/adapters/{uploaded}", json={"name": name}).status_code == status
    assert client.http.patch(f"/adapters/{MADE_UP}", json={"name": "x"}).status_code == 404
    assert client.http.patch("/adapters/intents%20v2", json={"name": "first"}).status_code == 200


def test_unknown_names_are_told_what_there_is(client: Client, job: dict[str, Any]) -> None:
    response = client.http.post("/generate", json={"prompt": "x", "adapter": "frist"})
    assert response.status_code == 404
    assert "first" in response.json()["detail"]


def test_uploads_are_models_too(
    server: ServerProcess, client: Client, base: Base, job: dict[str, Any], post: Any
) -> None:
    row = post(zip_of(lora_files(base, 8, seed=5)), name="guest").json()
    with OpenAI(base_url=f"{client.url}/v1", api_key="none", max_retries=0) as openai:
        (listed,) = [model.id for model in openai.models.list() if model.id.endswith(row["id"])]
        assert listed.endswith(f":guest:{row['id']}")
        texts = set()
        for model in (listed, "guest", row["id"]):
            made = openai.completions.create(model=model, prompt="good =>", max_tokens=8, temperature=0)
            texts.add(made.choices[0].text)
        assert len(texts) == 1
        for model in ("latest", "first", str(job["id"])):
            assert openai.completions.create(model=model, prompt="good =>", max_tokens=2).choices
        for model in (MADE_UP, f"ft:other:guest:{row['id']}"):
            with pytest.raises(OpenAINotFound):
                openai.models.retrieve(model)


@pytest.mark.parametrize(
    ("case", "status", "words"),
    [
        ("dora", 422, "lora_magnitude_vector belong together"),
        ("shape", 422, "this base and r need"),
        ("bomb", 413, "unpacked"),
        ("name", 422, "leads outside"),
        ("pickle", 422, "may run code"),
        ("no config", 422, "config"),
        ("config twice", 422, "contains a config already"),
        ("junk", 422, "config"),
        ("empty", 422, "config"),
    ],
)
def test_uploads_that_cannot_be_served_are_not_stored(
    tiny_path: Path, client: Client, base: Base, post: Any, case: str, status: int, words: str
) -> None:
    good = lora_files(base)
    bad = {
        "dora": zip_of(lora_files(base, use_dora=True)),
        "shape": zip_of(lora_files(base) | {"adapter_config.json": lora_files(base, 5)["adapter_config.json"]}),
        "bomb": zip_of(good | {"adapter_model.safetensors": bytes(257 << 20)}),
        "name": zip_of(good | {"../../adapter_config.json": b"{}"}),
        "pickle": b"\x80\x04pickle",
        "no config": good["adapter_model.safetensors"],
        "config twice": zip_of(good),
        "junk": b"junk",
        "empty": b"",
    }[case]
    before = client.get("/adapters")
    fields = {"config": "{}"} if case == "config twice" else {}
    response = post(bad, "adapter_model.bin" if case == "pickle" else "x.zip", **fields)
    assert response.status_code == status, response.text
    assert words in response.text
    assert client.get("/adapters") == before


def test_an_upload_is_stored_whole_or_not_at_all(
    server: ServerProcess, client: Client, base: Base, post: Any
) -> None:
    row = post(zip_of(lora_files(base))).json()
    kept = server.data_dir / "adapters"
    assert sorted(path.name for path in kept.iterdir()) == sorted(
        one["id"] for one in client.get("/adapters")["adapters"] if one["source"] == "upload"
    )
    assert sorted(path.name for path in (kept / row["id"]).iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    assert not [path for path in (server.data_dir / "datasets").iterdir() if path.name.endswith(".partial")]


def test_an_exported_adapter_can_be_uploaded(client: Client, base: Base, job: dict[str, Any], post: Any) -> None:
    response = client.http.get("/adapters/first/download")
    assert response.headers["content-type"] == "application/zip"
    assert response.content == client.http.get(f"/jobs/{job['id']}/adapter").content
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        assert archive.testzip() is None
        assert sorted(archive.namelist()) == ["adapter_config.json", "adapter_model.safetensors"]
    back = post(response.content, name="back")
    assert back.status_code == 201, back.text
    assert back.json()["sha256"] == response.headers["x-adapter-sha256"]
    assert text_of(client, "back") == text_of(client, "first")


def test_a_merged_model_is_a_checkpoint(
    server: ServerProcess, client: Client, base: Base, post: Any, tmp_path: Path
) -> None:
    row = post(zip_of(lora_files(base, 4, seed=9))).json()
    response = client.http.get(f"/adapters/{row['id']}/download?format=merged")
    assert response.status_code == 200, response.text
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        archive.extractall(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert model.dtype == torch.bfloat16
    assert {"tokenizer.json", "config.json", "model.safetensors"} <= {path.name for path in tmp_path.iterdir()}
    # Nothing of it stays on the server, and the base that serves is untouched.
    assert not [path for path in (server.data_dir / "adapters").iterdir() if path.name.startswith(".")]
    assert client.http.get(f"/adapters/{row['id']}/download?format=onnx").status_code == 422


def gguf_names(response: httpx.Response, name: str, directory: Path) -> set[str]:
    """The tensors of the one file in a zip, which is unpacked into a directory."""
    assert response.status_code == 200, response.text
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        assert archive.namelist() == [f"{name}.gguf"]
        archive.extractall(directory)
    return {tensor.name for tensor in gguf.GGUFReader(directory / f"{name}.gguf").tensors}


def test_gguf_files_of_a_job_and_of_an_upload(
    server: ServerProcess, client: Client, job: dict[str, Any], base: Base, post: Any, tmp_path: Path
) -> None:
    """Each form once, as each export takes seconds: both ways to an adapter end in the same function."""
    row = post(zip_of(lora_files(base, 4, seed=9))).json()
    response = client.http.get(f"/adapters/{row['id']}/download?format=gguf-lora")
    assert f"{row['id']}-gguf-lora.zip" in response.headers["content-disposition"]
    assert "blk.0.attn_q.weight.lora_a" in gguf_names(response, row["id"], tmp_path)
    response = client.http.get(f"/jobs/{job['id']}/adapter?format=gguf")
    assert f"{job['id']}-gguf.zip" in response.headers["content-disposition"]
    adapter = client.get(f"/adapters/{job['id']}")["id"]
    assert "blk.0.attn_q.weight" in gguf_names(response, adapter, tmp_path)
    assert not [path for path in (server.data_dir / "adapters").iterdir() if path.name.startswith(".")]


def test_deleted_while_it_answers(client: Client, base: Base, post: Any) -> None:
    row = post(zip_of(lora_files(base, 4, seed=11)), name="brief").json()
    body = {"prompt": "good => ", "adapter": "brief", "max_new_tokens": 100}
    whole = client.post("/generate", body)["text"]
    pieces = client.answer(body)
    kind, first = next(pieces)
    assert kind == "token"
    assert client.http.delete("/adapters/brief").status_code == 204
    rest = [data["text"] for kind, data in pieces if kind == "token"]
    assert first["text"] + "".join(rest) == whole
    assert client.http.post("/generate", json=body).status_code == 404
    for method in ("GET", "DELETE"):
        assert client.http.request(method, f"/adapters/{row['id']}").status_code == 404
    assert client.http.get(f"/adapters/{row['id']}/download").status_code == 404


def talk(client: Client, said: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "server", "chat", "--url", client.url, "--max-new-tokens", "6", *options],
        input=said,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_chat_through_a_pipe(client: Client, base: Base, post: Any) -> None:
    post(zip_of(lora_files(base, 4, seed=12)), name="talker")

    def turn(adapter: str | None, *said: str) -> str:
        roles = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(said)]
        body = {"messages": roles, "adapter": adapter, "max_new_tokens": 6}
        return str(client.post("/generate", body)["text"])

    one = turn(None, "hello")
    expected = [one, turn(None, "hello", one, "and?"), turn("talker", "hello"), turn(None, "hello")]
    said = "hello\n\nand?\n/reset\n/adapter talker\nhello\n/reset\n/adapter none\nhello\n/quit\nnever asked\n"
    done = talk(client, said, "--temperature", "0")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n") == [*(" ".join(text.splitlines()) for text in expected), ""]
    assert "talker answers from now on" in done.stderr


@pytest.mark.parametrize(("options", "said"), [(("--adapter", "nobody"), ""), ((), "/adapter nobody\n")])
def test_chat_without_a_server(client: Client, options: tuple[str, ...], said: str) -> None:
    done = talk(client, said, *options)
    assert done.returncode == 2
    assert "nobody" in done.stderr
    assert "Traceback" not in done.stderr
