"""What the commands tell of the rows they are given."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.commands import steerzo, train_arguments


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
