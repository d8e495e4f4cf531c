"""A hub on this machine: revisions, gated models, tokens in files, no network; each refusal says what to do."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from server.base_paths import is_allowed_base
from server.settings import from_environment
from steerzo_edge.cli.options import base_settings
from steerzo_edge.errors import BaseModelError, InputError
from steerzo_edge.estimate.anatomy import load_config
from steerzo_edge.export.apart import export_apart
from steerzo_edge.model.load import load_base
from steerzo_edge.model.sources.hub import hub_token
from tests.conftest import Loader
from tests.gguf_file import gguf_of
from tests.peft_directory import lora_files, written

COMMITS = {"main": "a" * 40, "v2": "b" * 40}
TOKEN = "hf_letmein"


class Hub(BaseHTTPRequestHandler):
    """Serves a directory as org/open, and as org/gated to those with the token."""

    def __init__(self, files: Path, *given: object) -> None:
        self.files = files
        super().__init__(*given)  # type: ignore[arg-type]

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""

    def refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        parts = self.path.partition("?")[0].strip("/").split("/")
        if parts[:1] == ["api"] or len(parts) < 5:
            return self.refuse(404, "EntryNotFound")
        repository, revision, name = "/".join(parts[:2]), parts[3], "/".join(parts[4:])
        if repository not in ("org/open", "org/gated"):
            return self.refuse(401, "RepoNotFound")
        if repository == "org/gated" and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.refuse(403, "GatedRepo")
        commit = COMMITS.get(revision) or (revision if revision in COMMITS.values() else None)
        if commit is None:
            return self.refuse(404, "RevisionNotFound")
        file = self.files / ("v2" if commit == COMMITS["v2"] else "main") / name
        if not file.is_file():
            return self.refuse(404, "EntryNotFound")
        data = file.read_bytes()
        self.send_response(200)
        self.send_header("X-Repo-Commit", commit)
        self.send_header("ETag", f'"{commit[:1]}{len(data)}{name}"')
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data)


@pytest.fixture(scope="module")
def hub(tiny_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    files = tmp_path_factory.mktemp("hub")
    (files / "main").symlink_to(tiny_path)
    (files / "v2").mkdir()
    for path in tiny_path.iterdir():
        if path.name != "config.json":
            (files / "v2" / path.name).symlink_to(path)
    settings = json.loads((tiny_path / "config.json").read_text())
    (files / "v2" / "config.json").write_text(json.dumps({**settings, "max_position_embeddings": 77}))
    gguf_of(files / "v2" / "tiny.gguf")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Hub, files))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


CODE = """
import json, os, sys, time
from steerzo_edge.errors import BaseModelError
from steerzo_edge.model.load import load_base
time.sleep = lambda seconds: None  # the hub's client waits between its attempts
for name, revision, variable in json.loads(sys.argv[1]):
    os.environ.pop("HF_TOKEN", None)
    os.environ.pop("STEERZO_HF_TOKEN_FILE", None)
    os.environ.update([variable] if variable else [])
    try:
        base = load_base(name, quantization="none", device="cpu", revision=revision or None)
        print("loaded", base.context_length, base.revision)
    except BaseModelError as error:
        print("refused", error, "|", error.hint)
"""


KEPT = """
import sys
from pathlib import Path
from steerzo_edge.model.load import load_base
from steerzo_edge.model.packed.cache import PackedCache
cache = PackedCache(Path(sys.argv[1]), 1 << 30)
for revision in (None, None, "v2"):
    base = load_base("org/open", device="cpu", revision=revision, cache=cache)
    print(base.fingerprint, len(cache.kept()))
    for path in Path(sys.argv[2]).rglob("*.safetensors"):
        path.resolve().unlink()
        path.unlink()
"""


def loads(hub: str, cache: Path, *asked: tuple[str, str], **more: str) -> list[str]:
    """What a fresh process says of each base: the hub's settings are read when its package is imported."""
    return loads_with_variables(hub, cache, *((*base, None) for base in asked), **more)


def loads_with_variables(
    hub: str, cache: Path, *asked: tuple[str, str, tuple[str, str] | None], **more: str
) -> list[str]:
    """The same, with a variable that is set while a base is loaded: those of tokens are read anew each time."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "STEERZO_"))}
    environment |= {"HF_ENDPOINT": hub, "HF_HOME": str(cache), "HF_HUB_DISABLE_XET": "1", **more}
    command = [sys.executable, "-c", CODE, json.dumps(asked)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_what_the_hub_says(hub: str, tmp_path: Path) -> None:
    newest, second, packed, no_file, no_revision, nobody, gated = loads(
        hub,
        tmp_path,
        ("org/open", ""),
        ("org/open", "v2"),
        ("org/open:tiny.gguf", "v2"),
        ("org/open:other.gguf", "v2"),
        ("org/open", "v3"),
        ("org/nobody", ""),
        ("org/gated", ""),
    )
    assert newest == "loaded 256 None"
    assert second == "loaded 77 v2"
    assert packed == "loaded 128 v2"
    assert "other.gguf" in no_file
    assert "has no revision 'v3'" in no_revision
    assert "is not on the hub, or is private" in nobody
    assert "is gated" in gated
    assert "HF_TOKEN" in gated
    assert "STEERZO_HF_TOKEN_FILE" in gated
    assert f"{hub}/org/gated" in gated

    # Without the network: what is in the cache loads, what is not says so.
    cached, missing, revision = loads(
        hub, tmp_path, ("org/open", "v2"), ("org/other", ""), ("org/open", "v9"), HF_HUB_OFFLINE="1"
    )
    assert cached == "loaded 77 v2"
    assert "'org/other' is not in the cache" in missing
    assert "HF_HUB_OFFLINE is set" in missing
    assert "hf download org/other" in missing
    assert "at revision 'v9'" in revision


def test_a_packed_copy_needs_no_weights(hub: str, tmp_path: Path) -> None:
    """The commit says that they are the same; another commit has a copy of its own."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "STEERZO_"))}
    environment |= {"HF_ENDPOINT": hub, "HF_HOME": str(tmp_path / "hub"), "HF_HUB_DISABLE_XET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", KEPT, str(tmp_path / "packed"), str(tmp_path / "hub")],
        capture_output=True, text=True, env=environment, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = [line.split() for line in done.stdout.splitlines()]
    assert [count for _, count in found] == ["1", "1", "2"]
    assert found[0][0] == found[1][0]


@pytest.fixture(scope="module")
def gated(hub: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A cache with the gated model, and what was said: without a token, with one in a secret file or a variable."""
    secret = tmp_path_factory.mktemp("secret") / "token"
    secret.write_text(f"{TOKEN}\n")
    cache = tmp_path_factory.mktemp("cache")
    said = loads_with_variables(
        hub,
        cache,
        ("org/gated", "", None),
        ("org/gated", "", ("STEERZO_HF_TOKEN_FILE", str(secret))),
        ("org/gated", "v3", None),
        ("org/gated", "v2", ("HF_TOKEN", TOKEN)),
    )
    return cache, said


def test_a_gated_model_with_a_token_in_a_secret_file(gated: tuple[Path, list[str]]) -> None:
    cache, (without, from_file, without_again, from_variable) = gated
    assert "is gated" in without
    assert from_file == "loaded 256 None"
    assert "is gated" in without_again
    assert from_variable == "loaded 77 v2"
    kept = [path for path in cache.rglob("*") if path.is_file()]
    assert kept
    assert not [path for path in kept if TOKEN.encode() in path.read_bytes()]


def test_an_export_apart_takes_a_gated_base_from_the_cache(
    gated: tuple[Path, list[str]], tiny: Loader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_TOKEN", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(gated[0]))
    adapter = written(tmp_path / "adapter", lora_files(tiny("none"), 2))
    export_apart("merged", adapter, tmp_path / "out", "org/gated", revision="v2")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["max_position_embeddings"] == 77


def test_an_unreachable_hub_is_reported(tmp_path: Path) -> None:
    (line,) = loads("http://127.0.0.1:9", tmp_path, ("org/open", ""))
    assert line.startswith("refused")
    assert "cannot be reached" in line


@pytest.mark.parametrize(
    ("content", "match"),
    [(None, "cannot be read: No such file"), (b"\n", "is empty"), (b"\xff", "cannot be read: it is not UTF-8")],
)
def test_a_token_file_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, match: str
) -> None:
    if content is not None:
        (tmp_path / "token").write_bytes(content)
    monkeypatch.setenv("STEERZO_HF_TOKEN_FILE", str(tmp_path / "token"))
    with pytest.raises(BaseModelError, match=match) as caught:
        hub_token()
    assert str(tmp_path) not in f"{caught.value} {caught.value.hint}"


def test_bases_of_this_machine_need_no_token(
    tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEERZO_HF_TOKEN_FILE", str(tmp_path / "token"))
    assert load_config("bundled").model_type == "llama"
    assert load_base(str(tiny_path), quantization="none", device="cpu").name == str(tiny_path)
    for path in (str(tmp_path / "gone"), "./gone"):
        with pytest.raises(BaseModelError, match="no such directory"):
            load_base(path, quantization="none", device="cpu")


def test_another_base_has_another_revision() -> None:
    assert base_settings(None, None) == {}
    assert base_settings("x/y", None) == {"model.id": "x/y", "model.revision": None}
    assert base_settings(None, "v2") == {"model.revision": "v2"}
    found = from_environment({"STEERZO_BASE": "x/y", "STEERZO_BASE_REVISION": "v2", "STEERZO_PROFILE": "cpu-demo"})
    assert (found.model.id, found.model.revision) == ("x/y", "v2")


def test_bases_of_this_disk_lie_under_the_operators_directory(tmp_path: Path) -> None:
    inside, outside = tmp_path / "models" / "mine", tmp_path / "other"
    inside.mkdir(parents=True)
    outside.mkdir()
    (tmp_path / "models" / "link").symlink_to(outside)
    root = tmp_path / "models"
    for name in ("bundled", "org/model", "gpt2", "org/model:some-q4.gguf", str(inside), f"{root}/../models/mine"):
        assert is_allowed_base(name, root), name
    for name in (
        str(outside),
        f"{root}/../other",
        f"{root}/link",
        "../x",
        "/",
        ".",
        "a/b/c",
        "org/model:../x.gguf",
        "org/model:x.bin",
        "x\0y",
        "steerzo_edge",
    ):
        assert not is_allowed_base(name, root), name
    environment = {"STEERZO_MODELS_DIR": str(root)}
    assert from_environment({**environment, "STEERZO_BASE": str(inside)}).model.id == str(inside)
    with pytest.raises(InputError, match="is not under models_dir"):
        from_environment({**environment, "STEERZO_BASE": str(outside)})
