"""The command line as a user meets it: in a pipe, as JSON, with bad input."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import labelled_rows
from tests.unit.commands import steerzo, train_arguments


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in labelled_rows(30).rows()))
    return path


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
    assert "continuing at step 8" in again.output
    assert first.output.splitlines()[-1] == again.output.splitlines()[-1]


def test_training_goes_on_without_advice(
    rows: Path, tmp_path: Path, tiny_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*arguments: object) -> str:
        raise AttributeError("vocab_size")

    monkeypatch.setattr("steerzo_edge.run.advice_for", fail)
    done = steerzo(*train_arguments(rows, tmp_path / "run", tiny_path, "steps=1"))
    assert done.exit_code == 0, done.output
    assert "no advice on back-propagation: AttributeError: vocab_size" in caplog.text


def test_train_as_json_is_one_object_a_line(rows: Path, tmp_path: Path, tiny_path: Path) -> None:
    done = steerzo(*train_arguments(rows, tmp_path / "run", tiny_path), "--json")
    lines = [json.loads(line) for line in done.output.splitlines()]
    assert [line["step"] for line in lines if line.get("event") == "step"] == list(range(8))
    assert set(lines[-1]) == {"result"}
    assert lines[-1]["result"]["metrics"]["examples"] == 3
    assert Path(lines[-1]["result"]["adapter"]).is_dir()


def test_train_on_a_benchmark_task(tmp_path: Path, tiny_path: Path) -> None:
    row = {"premise": "The photo faded.", "choice1": "It was old.", "choice2": "It was new.", "question": "cause"}
    path = tmp_path / "copa.jsonl"
    path.write_text("".join(json.dumps({**row, "label": i % 2}) + "\n" for i in range(12)))
    arguments = train_arguments(path, tmp_path / "run", tiny_path, "steps=3")
    done = steerzo(*arguments, "--validation", path, "--task", "copa", "--json")
    assert done.exit_code == 0, done.output
    metrics = json.loads(done.output.splitlines()[-1])["result"]["metrics"]
    assert metrics["metrics"] == {"accuracy": 0.5}
    assert metrics["score"] == 0.5
    for wrong, says in ((["--task", "mnli"], "no benchmark task 'mnli'"), (["--task", "rte"], "'premise'")):
        refused = steerzo("train", "--dataset", rows_without_premise(tmp_path), "--out", tmp_path / "other", *wrong)
        assert refused.exit_code == 2
        assert says in refused.output
    both = steerzo(*arguments, "--task", "copa", "--template", "{text}")
    assert both.exit_code == 2
    assert "brings its own prompt" in both.output


def rows_without_premise(tmp_path: Path) -> Path:
    path = tmp_path / "rte.jsonl"
    path.write_text(json.dumps({"hypothesis": "b", "label": "entailment"}))
    return path


@pytest.mark.long
def test_train_killed_and_called_again_gives_the_same_bytes(rows: Path, tmp_path: Path, tiny_path: Path) -> None:
    def arguments(out: str) -> list[str]:
        return [*train_arguments(rows, tmp_path / out, tiny_path, "steps=60", "evaluate.every=20"), "--json"]

    def finished(out: str) -> tuple[int, str]:
        """The first step of a command that ends by itself, and the adapter's hash."""
        done = steerzo(*arguments(out))
        assert done.exit_code == 0, done.output
        lines = [json.loads(line) for line in done.output.splitlines()]
        steps = [line["step"] for line in lines if line.get("event") == "step"]
        return steps[0], lines[-1]["result"]["sha256"]

    command = [sys.executable, "-m", "server", *arguments("rough")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            found = json.loads(line)
            assert "result" not in found, "it ended before it was killed"
            if found["step"] == 23:
                process.send_signal(signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL
    first, sha256 = finished("rough")
    assert first > 23
    assert (0, sha256) == finished("calm")


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


def test_a_directory_without_an_adapter_is_refused(tmp_path: Path, tiny_path: Path) -> None:
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


def test_evaluate_prints_a_table_or_json(rows: Path, tmp_path: Path, tiny_path: Path) -> None:
    trained = steerzo(*train_arguments(rows, tmp_path / "run", tiny_path, "rule.learning_rate=0.5"), "--json")
    assert trained.exit_code == 0, trained.output
    adapter = json.loads(trained.output.splitlines()[-1])["result"]["adapter"]
    common = ("evaluate", "--dataset", rows, "--base", tiny_path)
    (bare,) = (json.loads(line) for line in steerzo(*common, "--json").output.splitlines())
    (adapted,) = (json.loads(line) for line in steerzo(*common, "--adapter", adapter, "--json").output.splitlines())
    assert bare["examples"] == adapted["examples"] == 30
    assert (bare["shots"], bare["metric"]) == (0, "accuracy")
    assert bare["score"] == bare["metrics"]["accuracy"]
    assert bare["loss"] != adapted["loss"]
    table = steerzo(*common, "--shots", 2, "--demonstrations", rows, "--examples", 7, "--seed", 3)
    assert table.exit_code == 0, table.output
    assert "accuracy *" in table.output
    shots = steerzo(*common, "--shots", 2, "--demonstrations", rows, "--examples", 7, "--seed", 3, "--json")
    zero, two = (json.loads(line) for line in shots.output.splitlines())
    assert (zero["shots"], two["shots"], zero["examples"], two["examples"]) == (0, 2, 7, 7)
    assert zero["loss"] != two["loss"]
    assert f"{two['loss']:.4f}" in table.output


def test_evaluate_generates_what_a_task_is_judged_by(tmp_path: Path, tiny_path: Path) -> None:
    row = {"passage": "Bears 7, Lions 10.", "question": "Sum?", "answers_spans": {"spans": ["17", "seventeen"]}}
    path = tmp_path / "drop.jsonl"
    path.write_text(json.dumps(row))
    done = steerzo("evaluate", "--dataset", path, "--task", "drop", "--base", tiny_path, "--json")
    found = json.loads(done.output)
    assert found["metric"] == "f1"
    assert found["metrics"].keys() == {"f1", "exact_match"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--shots", "2"], "must be given together"),
        (["--demonstrations", "rows.jsonl"], "must be given together"),
        (["--task", "mnli"], "no benchmark task"),
        (["--adapter", "/nowhere"], "no adapter directory"),
        (["--quantization", "int3"], "quantization"),
        (["--shots", "2", "--demonstrations", "missing.jsonl"], "missing.jsonl"),
    ],
)
def test_rows_that_cannot_be_evaluated_are_refused(
    rows: Path, tiny_path: Path, arguments: list[str], says: str
) -> None:
    done = steerzo("evaluate", "--dataset", rows, "--base", tiny_path, *arguments)
    assert done.exit_code == 2
    assert says in done.output
    assert "hint:" in done.output


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
    assert "ok   nf4 kernel: on" in done.output
    findings = [json.loads(line) for line in steerzo("doctor", "--json").output.splitlines()]
    named = {"cpu", "gpu", "nf4 kernel", "int8 kernel", "memory", "disk", "data directory", "versions"}
    assert named <= {finding["what"] for finding in findings}


def test_help_is_quick_and_names_every_command() -> None:
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "server", "--help"], capture_output=True, text=True, check=True)
    assert time.monotonic() - started < 5
    for command in ("serve", "train", "evaluate", "generate", "estimate", "profiles", "doctor", "demo"):
        assert command in done.stdout
