"""Every format a row may be written in, how it is found, and what is told where it cannot be."""

import json
from pathlib import Path
from typing import Any

import pytest

from steerzo_edge.data import kinds
from steerzo_edge.data import rows as text_rows
from steerzo_edge.data.examples import Chat, Completion, Labelled, Message, Plain
from steerzo_edge.data.formats import FIELDS
from steerzo_edge.data.kinds import tokenize
from steerzo_edge.data.kinds.alpaca import WITH_INPUT, WITHOUT_INPUT
from steerzo_edge.data.reading import read_dataset, read_rows
from steerzo_edge.data.tokenization import Targets
from steerzo_edge.errors import DatasetError, TaskError
from tests.conftest import byte_tokenizer
from tests.unit.format_rows import ANSWER, ROWS, faults_of, lines, parquet_bytes


def test_every_format_has_a_test() -> None:
    assert set(ROWS) == set(FIELDS)


@pytest.mark.parametrize("format", ROWS)
def test_the_same_rows_in_every_container_are_the_same_dataset(format: str) -> None:
    rows = ROWS[format]
    found = read_dataset(lines(rows))
    assert (found.format, len(found)) == (format, 2)
    assert read_rows(rows) == found
    assert read_dataset(lines(rows), format=format) == found
    pretty = read_dataset(b"\xef\xbb\xbf" + json.dumps(rows, indent=2).encode())
    assert (pretty.examples, pretty.fingerprint) == (found.examples, found.fingerprint)
    from_parquet = read_dataset(parquet_bytes(rows), name="rows.parquet")
    assert (from_parquet.examples, from_parquet.fingerprint) == (found.examples, found.fingerprint)
    assert from_parquet.lines == (1, 2)


def test_csv_holds_the_formats_of_texts() -> None:
    assert read_dataset(b"text\nhello\n").examples == (Plain("hello"),)
    assert read_dataset(b'instruction,input,output\nAdd.,"1, 2",3\nHi.,,x\n').format == "alpaca"


def test_alpaca_rows_are_asked_as_they_were_published() -> None:
    with_input, without = read_rows(ROWS["alpaca"]).examples
    assert with_input == Completion(
        WITH_INPUT.replace("{instruction}", "Add.").replace("{input}", "1 {input} 2"), "3"
    )
    assert without == Completion(WITHOUT_INPUT.replace("{instruction}", "Say {input}."), "hi")
    assert read_rows([{"instruction": "Say {input}.", "input": None, "output": "hi"}]).examples == (without,)
    assert read_rows([{"instruction": "Say {input}.", "output": "hi"}]).examples == (without,)


def test_sharegpt_rows_are_conversations() -> None:
    chat = Chat((Message("system", "Be brief."), Message("user", "Why?"), Message("assistant", "So.")))
    assert read_rows(ROWS["sharegpt"]).examples[0] == chat
    assert read_rows(ROWS["sharegpt"]).kind == read_rows(ROWS["chat"]).kind == "chat"


@pytest.mark.parametrize(
    ("row", "place"),
    [
        ({"conversations": "hi"}, "conversations"),
        ({"conversations": [{"from": "bard", "value": "x"}]}, "conversations[0].from"),
        ({"conversations": [{"from": ["gpt"], "value": "x"}]}, "conversations[0].from"),
        ({"conversations": [{"from": "gpt", "value": ""}]}, "conversations[0].value"),
        ({"conversations": [{"from": "human", "value": "x"}]}, "conversations"),
        ({"conversations": [3]}, "conversations[0]"),
        ({"instruction": "", "output": "x"}, "instruction"),
        ({"instruction": "x", "output": None}, "output"),
        ({"instruction": "x", "input": 3, "output": "x"}, "input"),
        ({"text": 3}, "text"),
        ({"text": " "}, "text"),
    ],
)
def test_every_fault_names_its_field(row: dict[str, Any], place: str) -> None:
    format = next(name for name, fields in FIELDS.items() if fields[0] in row and name != "classification")
    assert faults_of(lines([*ROWS[format], row])) == [("line 3", place)]


def test_a_misspelt_label_is_not_taken_for_plain_text() -> None:
    rows = [{"text": "good", "lable": "x"}, {"text": "bad", "lable": "y"}]
    with pytest.raises(DatasetError, match="field 'label'") as caught:
        read_rows(rows)
    assert "format=plain" in caught.value.hint
    assert read_rows(rows, format="plain").examples == (Plain("good"), Plain("bad"))
    # One label among them: these are classes, and the others lack theirs.
    assert faults_of(lines([{"text": "a"}, {"text": "b"}, {"text": "c", "label": "x"}])) == [
        ("line 1", "label"),
        ("line 2", "label"),
    ]


def test_rows_of_two_formats_must_name_one() -> None:
    rows = [{"prompt": "a", "completion": "b", "text": "c", "label": "d"}]
    with pytest.raises(DatasetError, match=r"completion .* and classification .* equally well") as caught:
        read_rows(rows)
    assert "format=completion" in caught.value.hint
    assert read_rows(rows, format="classification").examples == (Labelled("c", "d"),)
    # The published alpaca rows carry their whole prompt as well.
    assert read_rows([{"instruction": "a", "input": "", "output": "b", "text": "c"}]).format == "alpaca"


def test_a_format_that_is_named_is_not_guessed() -> None:
    assert faults_of(lines(ROWS["chat"]), format="completion") == [
        (f"line {line}", field) for line in (1, 2) for field in ("prompt", "completion")
    ]
    with pytest.raises(DatasetError, match="no format 'chatml'") as caught:
        read_rows(ROWS["chat"], format="chatml")
    assert "sharegpt" in caught.value.hint
    with pytest.raises(TaskError, match="its own format"):
        read_rows(ROWS["chat"], format="chat", benchmark="rte")


def test_members_of_an_array_are_named_by_the_line_they_begin_in() -> None:
    text = (
        '[\n {"prompt": "a",\n  "completion": "b"},\n\n {"prompt": "a"}, 7,\n {"prompt": 1, "completion": "b"}\n]\n'
    )
    assert faults_of(text.encode()) == [("line 5", "completion"), ("line 5", ""), ("line 6", "prompt")]
    good = '{"prompt": "a", "completion": "b"}'
    for broken, line in (
        (f"[{good}\n{good}]", 2),
        (f"[{good},\n]", 2),
        (f"[\n{good},\n{{broken]", 3),
        (f"[{good}]\n[{good}]", 2),
        (f"[\n{good}", 2),
        ("[", 1),
    ):
        assert faults_of(broken.encode()) == [(f"line {line}", "")], broken


def test_only_the_first_rows_may_be_read() -> None:
    data = lines([*ROWS["completion"], {"broken": 1}])
    assert read_dataset(data, first=2).lines == (1, 2)
    assert len(read_dataset(data, first=1)) == 1


def test_only_the_first_faults_of_a_file_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_rows, "MOST_FAULTS", 200)
    for data in (b"7\n" * 1000, b"{}\n" * 1000, b"text,label\n" + b"a\n" * 1000, b"[" + b"7," * 999 + b"7]"):
        with pytest.raises(DatasetError) as caught:
            read_dataset(data)
        assert 0 < len(caught.value.faults) <= 100


def test_rows_that_are_too_long_or_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = lines([{"text": "x" * 100}, {"text": "y"}])
    monkeypatch.setattr(text_rows, "MOST_ROW_CHARACTERS", 50)
    assert faults_of(rows) == [("line 1", "")]
    monkeypatch.setattr(text_rows, "MOST_ARRAY_CHARACTERS", 50)
    with pytest.raises(DatasetError, match="JSON array of") as caught:
        read_dataset(json.dumps([{"text": "x" * 100}]).encode())
    assert "JSON lines" in caught.value.hint
    monkeypatch.setattr("steerzo_edge.data.reading.MOST_EXAMPLES", 3)
    assert faults_of(lines([{"text": "y"}] * 4)) == [("line 4", "")]


def test_json_that_python_cannot_hold_is_a_fault_of_its_line() -> None:
    good = '{"text": "a"}'
    deep = '{"text": "a", "x": ' + "[" * 100_000 + "]" * 100_000 + "}"
    long = '{"text": "a", "x": ' + "1" * 5000 + "}"
    for bad, told in ((deep, "nested too deeply"), (long, "too many digits")):
        for text in (f"{good}\n{bad}", f"[{good},\n{bad}]"):
            with pytest.raises(DatasetError, match=told) as caught:
                read_dataset(text.encode())
            assert [fault.where for fault in caught.value.faults] == ["line 2"]


def test_every_token_of_a_plain_text_but_the_first_counts_once() -> None:
    tokenizer = byte_tokenizer()
    text = "abcdefghijklmnopqrstuvwxyz"
    data = tokenize(read_rows([{"text": text}, {"text": "z"}]), tokenizer, 8)
    assert isinstance(data, Targets)
    assert max(len(row.tokens) for row in data.rows) == 8
    assert all(not row.counted[0] and all(row.counted[1:]) for row in data.rows)
    learned = [token for row in data.rows[:-1] for token in row.tokens[1:]]
    assert tokenizer.decode(learned) == text[1:] + "<|end|>"
    assert all(a.tokens[-1] == b.tokens[0] for a, b in zip(data.rows[:-2], data.rows[1:-1], strict=True))
    assert [tokenizer.decode(token) for token in data.rows[-1].tokens] == ["z", "<|end|>"]
    tokenizer.eos_token = None
    with pytest.raises(DatasetError, match=r"line 2, field 'text': found 1 tokens"):
        tokenize(read_rows([{"text": text}, {"text": "z"}]), tokenizer, 8)


def test_every_file_of_a_kind_is_registered() -> None:
    found = {path.stem for path in Path(kinds.__file__).parent.glob("*.py")}
    assert found - {"__init__", "kind"} == set(kinds.FILES)
    assert list(FIELDS) == list(kinds.KINDS)


def test_a_turn_without_a_speaker_is_named() -> None:
    with pytest.raises(DatasetError) as caught:
        read_rows([{"messages": [{"content": "Why?"}, ANSWER]}, {"messages": [{"role": "bot", "content": ""}]}])
    assert [(fault.field, fault.found) for fault in caught.value.faults] == [
        ("messages[0].role", "nothing"),
        ("messages[0].role", "'bot'"),
    ]
