"""The eleven benchmark tasks: their prompts and answers, the faults of their rows, and their limits."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from steerzo_edge.data import reading
from steerzo_edge.data.kinds import tokenize
from steerzo_edge.data.reading import read_dataset, read_rows
from steerzo_edge.data.task import Task
from steerzo_edge.data.tasks import TASKS
from steerzo_edge.data.tokenization import Choices, Questions, Targets
from steerzo_edge.errors import DatasetError, TaskError
from tests.conftest import byte_tokenizer
from tests.unit.task_rows import CASES, asked

DATA = Path(os.environ.get("STEERZO_BENCH_DATA", Path(__file__).parents[3] / "shared" / "data")) / "tasks"


def test_all_eleven_tasks_are_registered() -> None:
    assert set(TASKS) == set(CASES)
    assert {name for name, task in TASKS.items() if task.max_new_tokens} == {"squad", "drop"}


@pytest.mark.parametrize("name", CASES)
def test_the_prompt_and_the_choices_of_a_row(name: str) -> None:
    case = CASES[name]
    dataset = read_rows([case.row], benchmark=name)
    assert tuple(asked(dataset)) == case.expected
    assert dataset.metric == case.metric
    assert dataset.lines == (1,) * len(case.expected)


@pytest.mark.parametrize("name", CASES)
def test_the_tokens_are_those_of_prompt_and_answers(name: str) -> None:
    """What is asked survives tokenization: nothing is added, dropped or put in another order."""
    tokenizer = byte_tokenizer()
    case = CASES[name]
    data = tokenize(read_rows([case.row], benchmark=name), tokenizer, 400)
    assert data.metric == case.metric
    for index, (prompt, follows, right) in enumerate(case.expected):
        if isinstance(data, Targets):
            row = data.rows[index]
            assert tokenizer.decode(row.tokens) == f"{prompt} {follows[0]}<|end|>"
            assert sum(row.counted) == len(follows[0]) + 2
            assert (row.prompt, row.references) == (prompt, follows)
            assert data.max_new_tokens == 50
        elif isinstance(data, Questions):
            assert tokenizer.decode(data.rows[index].prompt) == prompt
            assert tuple(tokenizer.decode(choice) for choice in data.rows[index].choices) == follows
            assert data.rows[index].answers == right
        else:
            assert isinstance(data, Choices)
            assert tokenizer.decode(data.rows[index].prompt) == prompt
            assert tuple(tokenizer.decode(option) for option in data.options) == follows
            assert (data.rows[index].answer,) == right


@pytest.mark.parametrize(
    ("name", "changes", "field"),
    [
        ("sst2", {"sentence": None}, "sentence"),
        ("sst2", {"label": 2}, "label"),
        ("rte", {"label": "maybe"}, "label"),
        ("rte", {"hypothesis": 7}, "hypothesis"),
        ("cb", {"premise": " "}, "premise"),
        ("boolq", {"label": "yes"}, "label"),
        ("wsc", {"target": "she"}, "target"),
        ("wsc", {"target": {"span1_text": "Ann"}}, "target.span2_text"),
        ("wic", {"word": ""}, "word"),
        ("multirc", {"passage": {"text": "t", "questions": []}}, "passage.questions"),
        (
            "multirc",
            {"passage": {"text": "t", "questions": [{"question": "q", "answers": [{"text": "a", "label": 5}]}]}},
            "passage.questions[0].answers[0].label",
        ),
        ("copa", {"question": "why"}, "question"),
        ("copa", {"label": True}, "label"),
        ("record", {"qas": [{"query": "no place", "answers": [{"text": "Ann"}]}]}, "qas[0].query"),
        ("record", {"qas": [{"query": "@placeholder", "answers": [{"text": "Zoe"}]}]}, "qas[0].answers"),
        ("record", {"qas": [7]}, "qas[0]"),
        ("record", {"passage": {"text": "Ann", "entities": [{"start": 0, "end": 2}]}}, "passage.entities"),
        ("squad", {"answers": [{"text": ""}]}, "answers[0].text"),
        ("squad", {"title": []}, "title"),
        ("drop", {"answers_spans": {"spans": []}}, "answers_spans.spans"),
        ("drop", {"answers_spans": ["17"]}, "answers_spans"),
    ],
)
def test_a_bad_row_is_named_with_its_field(name: str, changes: dict[str, Any], field: str) -> None:
    row = CASES[name].row
    with pytest.raises(DatasetError) as caught:
        read_rows([row, {**row, **changes}, row], name="rows", benchmark=name)
    assert [(fault.where, fault.field) for fault in caught.value.faults[:1]] == [("line 2", field)]
    assert {fault.where for fault in caught.value.faults} == {"line 2"}
    assert f"rows as {name}: 1 of 3 rows" in str(caught.value)


@pytest.mark.parametrize("name", CASES)
def test_every_field_that_is_missing_is_a_fault(name: str) -> None:
    unread = {"idx", "version", "start1", "end1", "start2", "end2", "source", "id"}
    row = CASES[name].row
    for field in set(row) - unread:
        with pytest.raises(DatasetError) as caught:
            read_rows([{key: value for key, value in row.items() if key != field}], benchmark=name)
        assert (caught.value.faults[0].field, caught.value.faults[0].found) == (field, "nothing")
    read_rows([{key: value for key, value in row.items() if key not in unread}], benchmark=name)


EXPORTED: list[tuple[str, dict[str, Any]]] = [
    ("rte", {"label": 1}),
    ("cb", {"label": 2}),
    ("squad", {"answers": {"text": ["Normandy", "Normandy, in France", "Normandy"], "answer_start": [22, 22, 22]}}),
    ("wsc", {"target": None, "span1_text": "Ann", "span2_text": "she", "span1_index": 0, "label": 0}),
]


@pytest.mark.parametrize(("name", "changes"), EXPORTED)
def test_rows_as_the_datasets_library_exports_them(name: str, changes: dict[str, Any]) -> None:
    found = read_rows([{**CASES[name].row, **changes}], benchmark=name)
    assert found == read_rows([CASES[name].row], benchmark=name)


CB_TEMPLATE = TASKS["cb"].template
assert CB_TEMPLATE is not None


@pytest.mark.parametrize(
    ("name", "labels"),
    [("rte", ("entailment", "not_entailment")), ("cb", ("entailment", "contradiction", "neutral"))],
)
def test_numbered_labels_stand_for_names(name: str, labels: tuple[str, ...]) -> None:
    row = CASES[name].row
    assert read_rows([{**row, "label": i} for i in range(len(labels))], benchmark=name).labels == labels
    for wrong in (-1, len(labels), True):
        with pytest.raises(DatasetError, match="label"):
            read_rows([{**row, "label": wrong}], benchmark=name)


def test_a_file_is_limited_by_the_examples_it_becomes(monkeypatch: pytest.MonkeyPatch) -> None:
    row = CASES["multirc"].row
    size = sum(len(prompt.removesuffix("\n")) for prompt, _, _ in CASES["multirc"].expected)
    monkeypatch.setattr(reading, "MOST_CHARACTERS", 2 * size)
    assert len(read_rows([row] * 2, benchmark="multirc")) == 6
    monkeypatch.setattr(reading, "MOST_CHARACTERS", 2 * size - 1)
    with pytest.raises(DatasetError, match="more than") as caught:
        read_rows([row] * 4, benchmark="multirc")
    assert [fault.where for fault in caught.value.faults] == ["line 2"]
    monkeypatch.setattr(reading, "MOST_CHARACTERS", 1 << 20)
    monkeypatch.setattr(reading, "MOST_EXAMPLES", 5)
    with pytest.raises(DatasetError, match="more than 5 examples"):
        read_rows([row] * 2, benchmark="multirc")


def test_a_row_is_refused_before_its_examples_are_made() -> None:
    """A row of 1 MB that would become 100 GB: it must not be built first and counted then."""
    answers = [{"text": "", "label": 0}] * 40_000
    many = {"passage": {"text": "t" * 100_000, "questions": [{"question": "q", "answers": answers}]}}
    with pytest.raises(DatasetError, match="more than 1,000,000 examples"):
        read_rows([many], benchmark="multirc")
    row = json.loads(json.dumps(CASES["record"].row))
    row["qas"][0]["query"] = "@placeholder" + "x" * 400_000
    with pytest.raises(DatasetError, match="choices must hold at most"):
        read_rows([row], benchmark="record")
    row["passage"]["text"] = "".join(f"{i:05}" for i in range(4_000))
    row["passage"]["entities"] = [{"start": i, "end": i + 9_000} for i in range(10_000)]
    with pytest.raises(DatasetError, match="all entities must hold at most"):
        read_rows([row], benchmark="record")


def test_entities_outside_the_passage_are_faults() -> None:
    row = json.loads(json.dumps(CASES["record"].row))
    row["passage"]["entities"] += [{"start": 50, "end": 90}, {"start": 3, "end": -1}]
    with pytest.raises(DatasetError) as caught:
        read_rows([row], benchmark="record")
    fields = [fault.field for fault in caught.value.faults]
    assert fields[0] == "passage.entities[4].end"
    assert "passage.entities[5].end" in fields


def test_lines_of_a_file_and_faults_of_its_bytes_count_too() -> None:
    row = json.dumps(CASES["multirc"].row)
    dataset = read_dataset(f"{row}\n\n{row}\n".encode(), benchmark="multirc")
    assert dataset.lines == (1, 1, 1, 3, 3, 3)
    with pytest.raises(DatasetError) as caught:
        read_dataset(f"{row}\n{{broken\n[]\n".encode(), benchmark="multirc")
    assert [fault.where for fault in caught.value.faults] == ["line 2", "line 3"]


def test_a_task_has_one_name_and_one_prompt() -> None:
    with pytest.raises(TaskError) as caught:
        read_rows([CASES["rte"].row], benchmark="mnli")
    assert "rte" in caught.value.hint
    with pytest.raises(TaskError, match="brings its own prompt"):
        read_rows([CASES["rte"].row], benchmark="rte", task=Task())


def test_the_metric_is_part_of_what_a_run_goes_on_with() -> None:
    named = read_rows([CASES["squad"].row], benchmark="squad")
    plain = read_rows(named.rows())
    assert plain.examples == named.examples
    assert plain.fingerprint != named.fingerprint


@pytest.mark.skipif(not DATA.is_dir(), reason="the public data sets are not here")
@pytest.mark.parametrize("name", TASKS)
def test_every_row_of_every_file_parses(name: str) -> None:
    files = sorted((DATA / name).glob("*.jsonl"))
    assert len(files) == 3
    for path in files:
        dataset = read_dataset(path.read_bytes(), name=path.name, benchmark=name)
        rows = path.read_text(encoding="utf-8").count("\n")
        assert len(set(dataset.lines)) == rows
        assert "@placeholder" not in "".join(prompt for prompt, _, _ in asked(dataset.pick(list(range(20)))))
        texts = [example.row().get("text") for example in dataset.examples if name == "boolq"]
        assert not any(str(text).endswith("??") for text in texts)
