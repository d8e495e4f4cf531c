"""Files of rows: what is read, and what a reader is told about every row that is not."""

import json

import pytest

from steerzo_edge.data.examples import Chat, Completion, Labelled, MultipleChoice
from steerzo_edge.data.reading import read_dataset, read_rows
from steerzo_edge.data.task import Task
from steerzo_edge.errors import DatasetError, TaskError


def jsonl(*rows: object) -> bytes:
    return "\n".join(json.dumps(row) for row in rows).encode()


def test_formats_are_found_by_their_fields() -> None:
    assert read_dataset(jsonl({"prompt": "a", "completion": "b"})).examples == (Completion("a", "b"),)
    assert read_dataset(jsonl({"text": "a", "label": "b", "id": 3})).examples == (Labelled("a", "b"),)
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}]
    (chat,) = read_dataset(jsonl({"messages": turns})).examples
    assert isinstance(chat, Chat)
    assert [message.role for message in chat.messages] == ["user", "assistant"]


def test_choices_may_differ_from_row_to_row() -> None:
    rows = [
        {"prompt": "The sky is", "choices": ["blue", " green", "made of cheese"], "answer": 0},
        {"prompt": "2 + 2 =\n", "choices": ["4", "four", "5"], "answer": [0, 1]},
    ]
    dataset = read_dataset(jsonl(*rows))
    assert dataset.format == "multiple-choice"
    assert dataset.examples == (
        MultipleChoice("The sky is", (" blue", " green", " made of cheese"), (0,)),
        MultipleChoice("2 + 2 =\n", ("4", "four", "5"), (0, 1)),
    )
    assert read_rows(dataset.rows()) == read_rows(rows)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"choices": ["one"]}, "choices"),
        ({"choices": "ab"}, "choices"),
        ({"choices": ["a", 1]}, "choices"),
        ({"choices": ["a", " "]}, "choices"),
        ({"choices": ["a", " a"]}, "choices"),
        ({"answer": 2}, "answer"),
        ({"answer": -1}, "answer"),
        ({"answer": True}, "answer"),
        ({"answer": "0"}, "answer"),
        ({"answer": []}, "answer"),
        ({"answer": None}, "answer"),
        ({"prompt": ""}, "prompt"),
    ],
)
def test_a_question_that_cannot_be_asked(changes: dict[str, object], field: str) -> None:
    row = {"prompt": "p", "choices": ["a", "b"], "answer": 0}
    with pytest.raises(DatasetError) as caught:
        read_rows([row, {**row, **changes}])
    assert [(fault.where, fault.field) for fault in caught.value.faults] == [("line 2", field)]


def test_references_are_answers_that_count_as_right() -> None:
    row = {"prompt": "p", "completion": " b", "references": ["b", "B."]}
    (example,) = read_rows([row]).examples
    assert example == Completion("p", " b", ("b", "B."))
    assert example.accepted == ("b", "B.")
    assert read_rows([row]).rows() == [row]
    assert Completion("p", " b").accepted == ("b",)
    with pytest.raises(DatasetError, match="references"):
        read_rows([{**row, "references": "b"}])


def test_fingerprints_of_older_rows_have_not_changed() -> None:
    """A run that was started before references existed goes on."""
    found = read_rows([{"prompt": "a", "completion": "b"}, {"prompt": "c", "completion": " d"}])
    assert found.fingerprint == "b14f5913bd3560762c226976c6faa3323147651d641d961744e55ad07b154436"
    labelled = read_rows([{"text": "a", "label": "x"}, {"text": "b", "label": "y"}])
    assert labelled.fingerprint == "46d57ae69a3511c0ded54a3ff4d28c9f19a08eddc54ca6f945c5e4a9efdeb985"


def test_csv_with_quotes_and_lines_inside_cells() -> None:
    data = b'text,label\r\n"one, two",x\r\n"three\nfour",y\r\n'
    dataset = read_dataset(data, name="data.csv")
    assert dataset.examples == (Labelled("one, two", "x"), Labelled("three\nfour", "y"))
    assert dataset.lines == (2, 3)


def test_csv_is_known_by_its_first_character_too() -> None:
    assert read_dataset(b"prompt,completion\na,b\n").examples == (Completion("a", "b"),)


def test_a_byte_order_mark_and_blank_lines_are_no_matter() -> None:
    data = b"\xef\xbb\xbf" + jsonl({"text": "a", "label": 1}) + b"\n\n" + jsonl({"text": "b", "label": True})
    dataset = read_dataset(data)
    assert dataset.examples == (Labelled("a", "1"), Labelled("b", "true"))
    assert dataset.lines == (1, 3)


def test_every_bad_row_is_named_at_once() -> None:
    data = b"\n".join(
        [
            jsonl({"text": "fine", "label": "x"}),
            jsonl({"text": "", "label": "x"}),
            jsonl({"text": "no label"}),
            b"{broken",
            jsonl({"text": 7, "label": ["x"]}),
            b"[1, 2]",
            jsonl({"text": "fine too", "label": "y"}),
        ]
    )
    with pytest.raises(DatasetError) as caught:
        read_dataset(data, name="rows.jsonl")
    places = [(fault.where, fault.field) for fault in caught.value.faults]
    assert places == [
        ("line 2", "text"),
        ("line 3", "label"),
        ("line 4", ""),
        ("line 5", "text"),
        ("line 5", "label"),
        ("line 6", ""),
    ]
    assert "5 of 7 rows" in str(caught.value)
    assert caught.value.faults[1].found == "nothing"
    assert all(fault.mend for fault in caught.value.faults)


def test_a_conversation_must_end_with_the_answer() -> None:
    turns = [{"role": "user", "content": "hi"}]
    with pytest.raises(DatasetError, match="end with the assistant"):
        read_dataset(jsonl({"messages": turns}))
    with pytest.raises(DatasetError, match=r"messages\[0\].role.*one of system, user, assistant"):
        read_dataset(jsonl({"messages": [{"role": "robot", "content": "hi"}]}))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b" \n\n ", "empty"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "not UTF-8"),
        (b"PK\x03\x04\x00\x00", "NUL"),
        (b"[1, 2, 3]", "every member of the array must be a JSON object"),
        (b"[]", "no rows"),
        (b"hello\n", "no rows"),
        (b"hello\nworld\n", "no known format"),
        (b"text,label\n", "no rows"),
        (b'text,label\n"open', "quoting"),
        (b"text,label\na,b,c\n", "3 cells"),
    ],
)
def test_files_that_are_no_dataset(data: bytes, says: str) -> None:
    with pytest.raises(DatasetError, match=says) as caught:
        read_dataset(data, name="upload")
    assert caught.value.hint


def test_rows_in_a_body_are_counted_from_one() -> None:
    with pytest.raises(DatasetError) as caught:
        read_rows([{"prompt": "a", "completion": "b"}, "no object", {"prompt": "a"}])
    assert [fault.where for fault in caught.value.faults] == ["line 2", "line 3"]


def test_a_task_joins_options_to_the_prompt_with_one_blank() -> None:
    assert Task(template="{text} =>").answers(["b", "a"]) == {"a": " a", "b": " b"}
    assert Task(template="{text} => ").answers(["b", "a"]) == {"a": "a", "b": "b"}
    assert Task(template="{text}", options={"a": "yes", "b": "no"}).answers(["b"]) == {"a": " yes", "b": " no"}
    assert Task().prompt("braces {text} {} stay") == "braces {text} {} stay\nLabel:"


def test_a_task_that_does_not_fit_is_refused() -> None:
    with pytest.raises(TaskError, match="names no option for label 'c'"):
        Task(options={"a": "x", "b": "y"}).answers(["a", "c"])
    with pytest.raises(TaskError, match="nothing to choose"):
        Task().answers(["a"])


def test_the_fingerprint_depends_on_rows_and_task() -> None:
    rows = [{"text": "a", "label": "x"}, {"text": "b", "label": "y"}]
    one = read_rows(rows).fingerprint
    assert one == read_rows(rows).fingerprint
    assert one != read_rows(rows[::-1]).fingerprint
    assert one != read_rows(rows, task=Task(template="{text}!")).fingerprint
