"""What the commands tell of the rows they are given."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from steerzo_edge.data.reading import read_rows
from steerzo_edge.run import Run
from tests.conftest import Loader
from tests.unit.commands import steerzo, train_arguments
from tests.unit.runs import profile


def test_what_is_not_used_of_the_rows_is_told_before_the_training(tmp_path: Path, tiny_path: Path) -> None:
    path, judged = tmp_path / "rows.jsonl", tmp_path / "judged.jsonl"
    rows = [{"prompt": f"{i} <|end|>", "completion": " b", "note": "x"} for i in range(6)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    judged.write_text(json.dumps({"prompt": "p", "completion": " b", "id": 3}) + "\n")
    arguments = [*train_arguments(path, tmp_path / "run", tiny_path, "steps=1"), "--validation", str(judged)]
    done = steerzo(*arguments)
    assert done.exit_code == 0, done.output
    first, second, third, *_ = done.output.splitlines()
    assert first == "rows.jsonl: ignored: note (6 rows)"
    assert second.startswith("rows.jsonl: warning: 6 rows spell control tokens")
    assert third == "judged.jsonl: ignored: id (1 row)"
    allowed = steerzo(*[word.replace("/run", "/allowed") for word in arguments], "--allow-control-tokens")
    assert allowed.exit_code == 0, allowed.output
    assert "control tokens" not in allowed.output
    # The other reading gives other tokens, so it is another run.
    other = steerzo(*arguments, "--allow-control-tokens")
    assert other.exit_code != 0
    assert "a control token in it" in other.output


def test_check_tells_what_it_found(tmp_path: Path, tiny_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text;label;id\ngood;x;1\nbad;x;2\n")
    done = steerzo("data", "check", str(path), "--base", str(tiny_path))
    assert done.output.splitlines()[:3] == [
        "rows.csv: 2 rows, classification, CSV separated by semicolons",
        "ignored: id (2 rows)",
        "warning: all rows have the label 'x', so there is nothing to choose between: add rows of other labels, or "
        "name the options",
    ]


@pytest.mark.long
def test_a_reader_that_leaves_the_pipe_ends_the_command_quietly(tmp_path: Path, tiny_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a", "label": "x"}\n{"text": "b", "label": "y"}\n')
    command = [sys.executable, "-c", "from server.commands.app import main; main()", "data", "check", str(path)]
    for more in ([], ["--json"]):
        with subprocess.Popen(
            [*command, "--base", str(tiny_path), *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.close()
            assert process.stderr.read() == ""
        assert process.returncode == 1


def test_every_command_that_reads_rows_names_the_fields_it_does_not_use(tmp_path: Path, tiny_path: Path) -> None:
    path, solved = tmp_path / "rows.jsonl", tmp_path / "solved.jsonl"
    path.write_text('{"q": "a", "label": "x", "note": "n"}\n{"q": "b", "label": "y", "note": "n"}\n')
    solved.write_text('{"q": "c", "label": "x", "by": "n"}\n{"q": "d", "label": "y"}\n')
    shared = ["--dataset", path, "--map", "text=q", "--base", tiny_path]
    evaluated = ["evaluate", *shared, "--shots", "1", "--demonstrations", solved]
    estimated = ["estimate", *shared, "--set", "batch.max_tokens=64"]
    told = ["rows.jsonl: ignored: note (2 rows)"]
    for command, expected in ((evaluated, [*told, "solved.jsonl: ignored: by (1 row)"]), (estimated, told)):
        done = steerzo(*command)
        assert done.exit_code == 0, done.output
        assert done.output.splitlines()[: len(expected)] == expected
        first = steerzo(*command, "--json").output.splitlines()[0]
        assert json.loads(first)["warnings"] == expected


def test_a_run_from_python_has_the_remarks_on_its_rows(tmp_path: Path, tiny: Loader) -> None:
    rows = [{"text": f"t{i}", "label": "ab"[i % 2], "note": "n"} for i in range(10)]
    judged = read_rows([{**row, "id": 1} for row in rows[:3]])
    for validation, more in ((None, []), (judged, ["validation rows: ignored: id (3 rows), note (3 rows)"])):
        out = tmp_path / f"run-{len(more)}"
        run = Run(out, tiny("none"), profile(steps=1), read_rows(rows), validation)
        run.close()
        assert list(run.remarks) == ["training rows: ignored: note (10 rows)", *more]
