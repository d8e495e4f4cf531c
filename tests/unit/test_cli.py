"""The command line as a user meets it: in a pipe, as JSON, with bad input."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from server.cli import app
from tests.conftest import labelled_rows

SMALL = ["steps=8", "evaluate.every=4", "batch.max_tokens=64", "subset.rank=2", "subset.last_layers=2"]


def steerzo(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in labelled_rows(30).rows()))
    return path


def train_arguments(rows: Path, out: Path, base: Path, *settings: str) -> list[str]:
    sets = [word for setting in (*SMALL, *settings) for word in ("--set", setting)]
    return ["train", "--dataset", str(rows), "--out", str(out), "--base", str(base), *sets]


def test_train_in_a_pipe_prints_plain_lines_and_goes_on(rows: Path, tmp_path: Path, tiny_path: Path) -> None:
    first = steerzo(*train_arguments(rows, tmp_path / "run", tiny_path))
    assert first.exit_code == 0, first.output
    assert "\r" not in first.output
    assert "\x1b" not in first.output
    assert "Back-propagation would need about" in first.output
    assert "after 0 steps: accuracy" in first.output
    assert "after 8 steps: accuracy" in first.output
    assert (tmp_path / "run" / "adapter" / "adapter_model.safetensors").exists()
    again = steerzo(*train_arguments(rows, tmp_path / "run", tiny_path))
    assert again.exit_code == 0
    assert "going on at step 8" in again.output
    assert first.output.splitlines()[-1] == again.output.splitlines()[-1]


def test_train_as_json_is_one_object_a_line(rows: Path, tmp_path: Path, tiny_path: Path) -> None:
    done = steerzo(*train_arguments(rows, tmp_path / "run", tiny_path), "--json")
    lines = [json.loads(line) for line in done.output.splitlines()]
    assert [line["step"] for line in lines if line.get("event") == "step"] == list(range(8))
    assert set(lines[-1]) == {"result"}
    assert lines[-1]["result"]["metrics"]["examples"] == 3
    assert Path(lines[-1]["result"]["adapter"]).is_dir()


def test_train_killed_and_called_again_gives_the_same_bytes(rows: Path, tmp_path: Path, tiny_path: Path) -> None:
    def shas(out: str, kill_after: int | None) -> str:
        arguments = train_arguments(rows, tmp_path / out, tiny_path, "steps=60", "evaluate.every=20")
        command = [sys.executable, "-m", "server", *arguments, "--json"]
        while True:
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
                assert process.stdout is not None
                for line in process.stdout:
                    found = json.loads(line)
                    if "result" in found:
                        return str(found["result"]["sha256"])
                    if kill_after is not None and found["step"] == kill_after:
                        process.send_signal(signal.SIGKILL)
                        kill_after = None
                        break
            assert process.returncode == -signal.SIGKILL, "it ended without a result"

    assert shas("calm", None) == shas("rough", 23)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--dataset", "missing.jsonl"], "there is no file 'missing.jsonl'"),
        (["--profile", "gpu-8bg"], "Did you mean 'gpu-8gb'"),
        (["--set", "stpes=3"], "did you mean 'steps'"),
        (["--set", "steps"], "is not key=value"),
        (["--set", "steps=[1"], "not YAML"),
        (["--base", "/nowhere"], "cannot be loaded"),
        (["--template", "no place"], "must contain {text}"),
    ],
)
def test_bad_input_is_one_line_a_hint_and_exit_code_2(
    rows: Path, tmp_path: Path, arguments: list[str], says: str
) -> None:
    defaults = {"--dataset": str(rows), "--out": str(tmp_path / "run")}
    given = [*arguments]
    for name, value in defaults.items():
        if name not in arguments:
            given += [name, value]
    done = steerzo("train", *given)
    assert done.exit_code == 2
    assert says in done.output
    assert "hint:" in done.output
    assert "Traceback" not in done.output


def test_an_adapter_directory_that_is_none(tmp_path: Path, tiny_path: Path) -> None:
    done = steerzo("generate", "hello", "--base", tiny_path, "--adapter", tmp_path)
    assert done.exit_code == 2
    assert "adapter_config.json cannot be read" in done.output


def test_generate_prints_the_answer(rows: Path, tmp_path: Path, tiny_path: Path) -> None:
    plain = steerzo("generate", "hello", "--base", tiny_path, "--max-new-tokens", 5)
    found = json.loads(steerzo("generate", "hello", "--base", tiny_path, "--max-new-tokens", 5, "--json").output)
    assert plain.exit_code == 0
    assert plain.output == found["text"] + "\n"
    assert found["usage"] == {"prompt_tokens": 5, "completion_tokens": 5}
    chat = steerzo("generate", "hello", "--base", tiny_path, "--max-new-tokens", 2, "--chat", "--json")
    assert json.loads(chat.output)["usage"]["prompt_tokens"] == 8


def test_profiles_are_listed_and_shown() -> None:
    listed = steerzo("profiles", "list")
    assert listed.exit_code == 0
    assert "cpu-demo" in listed.output
    shown = steerzo("profiles", "show", "cpu-demo", "--set", "steps=7", "--json")
    assert json.loads(shown.output)["steps"] == 7
    assert steerzo("profiles", "show", "cpu-dmo").exit_code == 2


def test_doctor_tries_a_real_product() -> None:
    done = steerzo("doctor")
    assert done.exit_code == 0, done.output
    assert "ok   4-bit kernel: nf4 on" in done.output
    findings = [json.loads(line) for line in steerzo("doctor", "--json").output.splitlines()]
    assert {"cpu", "gpu", "4-bit kernel", "memory", "disk", "versions"} == {f["what"] for f in findings}


def test_help_is_quick_and_names_every_command() -> None:
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "server", "--help"], capture_output=True, text=True, check=True)
    assert time.monotonic() - started < 5
    for command in ("serve", "train", "generate", "estimate", "profiles", "doctor", "demo"):
        assert command in done.stdout


def test_the_demo_runs_through(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "server", "demo", "--steps", "2", "--data-dir", str(tmp_path / "demo")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "job succeeded" in done.stdout
    assert "before  0.3" in done.stdout
    assert "right answer" in done.stdout
