"""Commands say what they are asked for: no line of a library, no loading bar."""

import json
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import pytest
from typer.main import get_command

from server.commands.app import app
from steerzo_edge.export.forms import FORMS
from tests.families import FURTHER, saved
from tests.gguf_file import gguf_of
from tests.server.process import ServerProcess

PROMPT = ["--max-new-tokens", "2", "--json"]
TWO_RATES = ["--set", "rule.learning_rate=0.01,0.1"]
ROWS = [{"text": f"{word} {index}", "label": word} for index in range(6) for word in ("good", "bad")]
# They need a server, a hub, or a person; what a server prints has a test of its own.
ELSEWHERE = {"serve", "demo", "chat", "jobs", "keys", "push"}
PROGRAM = """
import json, sys
from server.commands.app import app
from steerzo_edge.export.forms import FORMS
for words in json.loads(sys.argv[1]):
    try:
        app(words)
    except SystemExit as end:
        assert not end.code, words
"""
STRAY = ("Failed to load", "Loading weights", "Loading checkpoint", "Writing model", "it/s]", "\r", "Warning")


def said(*words: str) -> str:
    """What a command prints to standard error."""
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def experts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base that `transformers` loads itself."""
    return saved(deepcopy(FURTHER["mixtral-experts"]), tmp_path_factory.mktemp("experts"))


# One command after the other in one process, which imports once what takes seconds.
COMMANDS = """
import json, sys
from server.commands.app import main
for words in json.loads(sys.argv[1]):
    sys.argv = ["steerzo", *words]
    try:
        main()
    except SystemExit as end:
        assert not end.code
"""


@pytest.mark.long
def test_commands(experts: Path) -> None:
    bundled = ["generate", "Once", *PROMPT]
    by_transformers = [*bundled, "--base", str(experts), "--quantization", "none"]
    assert said("-c", COMMANDS, json.dumps([bundled, by_transformers])) == ""


@pytest.mark.long
def test_every_command(tmp_path: Path) -> None:
    """With a base in a GGUF file, one after the other in one process: what is printed once is there too."""
    base, rows, run = str(gguf_of(tmp_path / "x.gguf")), str(tmp_path / "rows.jsonl"), tmp_path / "run"
    Path(rows).write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    adapter = ["--adapter", str(run / "adapter")]
    settings = {"steps": 2, "subset.last_layers": 1, "method.pool": 2, "batch.examples": 2, "evaluate.examples": 4}
    chosen = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    commands = [
        ["data", "check", rows], ["profiles", "list"], ["profiles", "show", "cpu-demo"], ["doctor"],
        ["estimate", "--dataset", rows, "--base", base, *chosen],
        ["train", "--dataset", rows, "--base", base, "--out", str(run), *chosen],
        ["train", "--dataset", rows, "--base", base, "--out", str(run), *chosen],
        ["sweep", "--dataset", rows, "--base", base, "--out", str(tmp_path / "sweep"), *chosen, *TWO_RATES],
        ["evaluate", "--dataset", rows, "--base", base, *adapter],
        ["generate", "good", "--base", base, *adapter, *PROMPT],
        ["base", "pack", base, "--to", str(tmp_path / "x.packed")],
        ["generate", "good", "--base", str(tmp_path / "x.packed"), *PROMPT],
        *(
            ["export", adapter[1], "--base", base, "--format", form, "--out", str(tmp_path / f"{form}.gguf")]
            for form in FORMS
        ),
    ]  # fmt: skip
    known = set(get_command(app).commands)  # type: ignore[attr-defined]
    assert {words[0] for words in commands} == known - ELSEWHERE
    assert said("-c", PROGRAM, json.dumps(commands)) == ""


@pytest.mark.long
def test_a_server(tmp_path: Path) -> None:
    with ServerProcess(gguf_of(tmp_path / "x.gguf"), tmp_path / "data") as server:
        client = server.start(is_forked=False)
        rows = client.post("/datasets", {"rows": ROWS})["id"]
        overrides = {"steps": 2, "subset.last_layers": 1, "batch.examples": 2, "evaluate.examples": 4}
        job = client.post("/jobs", {"dataset": rows, "profile": "cpu-demo", "overrides": overrides})["id"]
        assert list(client.events(job))[-1][1]["state"] == "succeeded"
        client.post("/generate", {"prompt": "good", "adapter": job, "max_new_tokens": 2})
        for form in ("merged", "gguf"):
            assert client.http.get(f"/adapters/{job}/download", params={"format": form}).status_code == 200
    log = server.log.read_text()
    assert "serving on" in log
    assert not [word for word in STRAY if word in log], log


def test_the_library_is_imported_in_one_place_only() -> None:
    """Before steerzo_edge it would print its line; and importing it loads no compiler."""
    program = (
        "import steerzo_edge.model.weights.library, sys;"
        "assert 'torch._inductor.lowering' not in sys.modules;"
        "import torch; assert torch.compile.__module__ == 'torch'"
    )
    assert said("-c", program) == ""
    package = Path(__file__).parents[2] / "steerzo_edge"
    importing = [
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if "import bitsandbytes" in (text := path.read_text()) or "from bitsandbytes" in text
    ]
    assert importing == ["model/weights/library.py"]
