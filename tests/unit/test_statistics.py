"""What is said of a dataset: by the numbers, and row by row as the model will see them."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from server.commands.app import app
from steerzo_edge.data.preview import Segment, preview
from steerzo_edge.data.reading import read_rows
from steerzo_edge.data.statistics import overlap, statistics
from steerzo_edge.data.task import Task
from steerzo_edge.errors import DatasetError
from tests.conftest import byte_tokenizer

TOKENIZER = byte_tokenizer()  # one token a byte, and one at the end of what is learned


def test_lengths_are_those_of_prompt_and_answer() -> None:
    rows = [{"prompt": "p" * 3, "completion": "c" * length} for length in (*[4] * 18, 13, 28)]
    facts = statistics(read_rows(rows), TOKENIZER, 64)
    assert facts["tokens"] == {
        "total": 18 * 8 + 17 + 32,
        "mean": round((18 * 8 + 17 + 32) / 20, 1),
        "p50": 8,
        "p95": 17,
        "longest": 32,
        "targets": 18 * 5 + 14 + 29,
    }
    assert facts["lengths"] == [{"upto": 8, "rows": 18}, {"upto": 16, "rows": 0}, {"upto": 32, "rows": 2}]
    assert (facts["rows"], facts["duplicates"], facts["truncated"], facts["max_tokens"]) == (20, 17, 0, 64)


def test_labels_are_counted_and_long_prompts_are_cut() -> None:
    rows = [{"text": "t" * length, "label": label} for length, label in ((2, "ab"), (90, "a"), (3, "a"))]
    facts = statistics(read_rows(rows, task=Task(template="{text}: ")), TOKENIZER, 16)
    assert facts["balance"] == {"ab": 1, "a": 2}
    assert facts["labels"] == ["ab", "a"]
    assert facts["tokens"]["targets"] == 4
    # Room is left for the longest option, whichever is right.
    assert (facts["truncated"], facts["tokens"]["longest"]) == (1, 15)
    single = statistics(read_rows(rows[1:]), TOKENIZER, 16)
    assert single["balance"] == {"a": 2}
    assert "tokens" not in single


def test_questions_and_long_texts() -> None:
    questions = [{"prompt": "p", "choices": ["aa", "bbbb"], "answer": [1, 0]}]
    assert statistics(read_rows(questions), TOKENIZER, 16)["tokens"]["total"] == 1 + 5
    texts = statistics(read_rows([{"text": "t" * 20}]), TOKENIZER, 8)
    assert (texts["rows"], texts["sequences"], texts["truncated"]) == (1, 3, 0)
    assert texts["tokens"]["targets"] == 20


def test_targets_that_do_not_fit_are_named() -> None:
    with pytest.raises(DatasetError) as caught:
        statistics(read_rows([{"prompt": "p", "completion": "c" * 20}]), TOKENIZER, 16)
    assert caught.value.faults[0].where == "line 1"


def test_validation_rows_that_are_learned_are_counted() -> None:
    train = read_rows([{"prompt": str(i), "completion": "c"} for i in range(5)])
    judged = read_rows([{"prompt": str(i), "completion": "c"} for i in (3, 3, 4, 5)])
    assert overlap(train, judged) == 3
    assert overlap(train, train.pick([0])) == 1


def segments(rows: list[dict[str, Any]], max_tokens: int = 64, **options: Any) -> list[list[tuple[str, bool]]]:
    seen = preview(read_rows(rows, **options), TOKENIZER, max_tokens)
    for row in seen:
        assert row.tokens >= row.targets > 0
        assert row.targets == sum(len(s.text.replace("<|end|>", "E").encode()) for s in row.segments if s.target)
    return [[(segment.text, segment.target) for segment in row.segments] for row in seen]


def test_learned_text_is_marked() -> None:
    assert segments([{"prompt": "Größe? ", "completion": "2 µm"}]) == [[("Größe? ", False), ("2 µm<|end|>", True)]]
    turns = [{"role": role, "content": role[0]} for role in ("system", "user", "assistant", "user", "assistant")]
    assert segments([{"messages": turns}]) == [
        [
            ("<|system|>s<|end|><|user|>u<|end|><|assistant|>", False),
            ("a<|end|>", True),
            ("<|user|>u<|end|><|assistant|>", False),
            ("a<|end|>", True),
        ]
    ]
    assert segments([{"text": "abc"}]) == [[("a", False), ("bc<|end|>", True)]]
    assert segments([{"prompt": "The sky is", "choices": ["red", "blue"], "answer": 1}]) == [
        [("The sky is", False), (" blue", True)]
    ]


def test_labelled_rows_are_shown_through_their_template() -> None:
    rows = read_rows([{"text": "good", "label": "x"}], task=Task(template="{text} => "))
    (row,) = preview(rows, TOKENIZER, 64, labels=["x", "yy"])
    assert row.segments == (Segment("good => ", False), Segment("x", True))
    assert row.options == ("x", "yy")


def test_rows_are_shown_as_they_are_cut() -> None:
    rows = read_rows([{"prompt": "abcdefgh", "completion": "xy"}, {"prompt": "a", "completion": "b"}])
    first, second = preview(rows, TOKENIZER, 6)
    assert first.segments == (Segment("fgh", False), Segment("xy<|end|>", True))
    assert (first.truncated, second.truncated) == (True, False)
    (text,) = preview(read_rows([{"text": "t" * 20}]), TOKENIZER, 8)
    assert (text.sequences, text.tokens) == (3, 8)


def check(path: Path, *options: str) -> Result:
    return CliRunner().invoke(app, ["data", "check", str(path), *options])


def test_a_file_is_checked_without_a_server(tmp_path: Path, tiny_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text,label\ngood,x\nbad,y\nbad,y\n")
    done = check(path, "--base", str(tiny_path))
    assert done.exit_code == 0, done.output
    assert "rows.csv: 3 rows, classification, CSV\nlabels: y 2, x 1\n" in done.output
    assert "1 rows are the same as an earlier one" in done.output
    done = check(path, "--base", str(tiny_path), "--json", "--max-tokens", "32")
    facts = json.loads(done.output)
    assert facts == {"ok": True, **statistics(read_rows(_rows(path)), TOKENIZER, 32), "container": "CSV"}
    plain = json.loads(check(path, "--base", str(tiny_path), "--json", "--format", "plain").output)
    assert (plain["format"], plain["sequences"], plain["max_tokens"]) == ("plain", 3, 256)


def test_a_file_with_faults_is_refused_with_all_of_them(tmp_path: Path, tiny_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "a"}\n' * 30)
    done = check(path, "--base", str(tiny_path))
    assert done.exit_code == 2
    assert done.output.count("field 'completion': found nothing") == 31
    done = check(path, "--base", str(tiny_path), "--json")
    assert done.exit_code == 2
    found = json.loads(done.output)
    assert (found["ok"], found["code"], len(found["errors"])) == (False, "invalid-dataset", 30)
    assert found["errors"][7]["where"] == "line 8"
    assert check(path, "--task", "rte").exit_code == 2
    assert check(path, "--format", "yaml").exit_code == 2
    assert check(tmp_path / "nowhere").exit_code == 2


def _rows(path: Path) -> list[dict[str, str]]:
    header, *lines = (line.split(",") for line in path.read_text().splitlines())
    return [dict(zip(header, line, strict=True)) for line in lines]
