"""Fields that mean something in published formats: each is honoured, refused by name, or counted as not used."""

import json
from typing import Any

import pytest

from steerzo_edge.data.examples import Chat, Completion, Labelled, Message
from steerzo_edge.data.kinds import tokenize
from steerzo_edge.data.kinds.alpaca import WITHOUT_INPUT
from steerzo_edge.data.reading import read_dataset, read_rows
from steerzo_edge.data.remarks import MOST_NAMES, OTHERS
from steerzo_edge.data.statistics import statistics, warnings_of
from steerzo_edge.data.tokenization import Targets
from steerzo_edge.errors import DatasetError
from tests.conftest import byte_tokenizer
from tests.unit.format_rows import ANSWER, ROWS, TURNS, faults_of, lines
from tests.unit.task_rows import CASES

USER = {"role": "user", "content": "Why?"}
CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {}}}


def faults(row: dict[str, Any], format: str) -> list[str]:
    return [field for _, field in faults_of(lines([row]), format=format)]


def chat(*turns: dict[str, Any], **fields: Any) -> Chat:
    (example,) = read_rows([{"messages": list(turns), **fields}]).examples
    assert isinstance(example, Chat)
    return example


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    *[
        (format, {name: value}, name)
        for format in ROWS
        for name, value in (("chosen", "x"), ("rejected", [USER]), ("images", ["a.png"]), ("weight", 0))
    ],
    *[
        (format, {"label": value}, "label")
        for format in ("completion", "chat-completion", "alpaca", "chat", "sharegpt")
        for value in (False, 0, "false", "bad", [1])
    ],
    *[
        (format, {name: value}, name)
        for format in ("completion", "alpaca")
        for name, value in (
            ("system", "Be brief."),
            ("history", [["a", "b"]]),
            ("tools", [TOOL]),
            ("tool_calls", [CALL]),
            ("functions", [TOOL]),
        )
    ],
    *[
        (format, {name: value}, name)
        for format in ("chat", "sharegpt", "chat-completion")
        for name, value in (
            ("functions", [TOOL]),
            ("tool_calls", [CALL]),
            ("tools", "a calculator"),
            ("tools", [3]),
            ("chat_template_kwargs", {"thinking": True}),
        )
    ],
    ("alpaca", {"kto_tag": False}, "kto_tag"),
]


@pytest.mark.parametrize(("format", "more", "field"), REFUSED)
def test_what_cannot_be_honoured_is_refused_by_name(format: str, more: dict[str, Any], field: str) -> None:
    row = ROWS[format][1]
    assert read_rows([row], format=format)
    if format == "plain":
        assert faults({**row, **more}, format) == [field]
        return
    assert faults({**row, **more}, format) == [field]
    assert [place for _, place in faults_of(lines([{**row, **more}, row, row]))] == [field]


NEUTRAL: list[dict[str, Any]] = [
    {"label": True, "weight": 1},
    {"label": 1.0, "weight": 1.0},
    {"label": "True", "kto_tag": "true"},
    {"tools": [], "images": None, "system": "", "history": [], "chosen": ""},
]


@pytest.mark.parametrize("more", NEUTRAL)
def test_fields_that_say_nothing_change_nothing(more: dict[str, Any]) -> None:
    row = ROWS["completion"][0]
    found, plain = read_rows([{**row, **more}]), read_rows([row])
    assert found == plain
    assert found.remarks.ignored == {}


REFUSED_TURNS: list[tuple[dict[str, Any], str]] = [
    ({"weight": 2}, "weight"),
    ({"weight": "0"}, "weight"),
    ({"refusal": "no"}, "refusal"),
    ({"function_call": {"name": "f"}}, "function_call"),
    ({"reasoning_content": "hm"}, "reasoning_content"),
    ({"images": ["a"]}, "images"),
    ({"content": [{"type": "image_url", "image_url": "x"}]}, "content[0].type"),
    ({"content": [{"type": "text", "text": 3}]}, "content[0].text"),
    ({"content": [{"type": "text", "text": " "}]}, "content"),
    ({"content": []}, "content"),
    ({"content": None}, "content"),
    ({"tool_calls": [{"function": {"arguments": {}}}]}, "tool_calls[0].function.name"),
    ({"tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}, "tool_calls[0].function.arguments"),
    ({"tool_calls": [{"type": "web", "function": {"name": "f"}}]}, "tool_calls[0].type"),
    ({"tool_calls": "f()"}, "tool_calls"),
]


@pytest.mark.parametrize(("more", "field"), REFUSED_TURNS)
def test_what_a_turn_cannot_honour_is_refused_by_name(more: dict[str, Any], field: str) -> None:
    assert faults({"messages": [USER, {**ANSWER, **more}]}, "chat") == [f"messages[1].{field}"]


def test_only_answers_can_be_marked_as_learned() -> None:
    assert faults({"messages": [{**USER, "weight": 1}, ANSWER]}, "chat") == ["messages[0].weight"]
    assert faults({"messages": [{**USER, "train": True}, ANSWER]}, "chat") == ["messages[0].train"]
    assert faults({"messages": [{**USER, "tool_calls": [CALL]}, ANSWER]}, "chat") == ["messages[0].tool_calls"]
    assert chat({**USER, "weight": 0}, ANSWER) == chat(USER, ANSWER)


@pytest.mark.parametrize("mark", [{"weight": 0}, {"weight": 0.0}, {"train": False}, {"loss": False}])
def test_answers_marked_as_not_learned_are_read_only(mark: dict[str, Any]) -> None:
    tokenizer = byte_tokenizer()
    turns = [USER, {**ANSWER, **mark}, USER, {"role": "assistant", "content": "Yes."}]
    dataset = read_rows([{"messages": turns}])
    data = tokenize(dataset, tokenizer, 200)
    assert isinstance(data, Targets)
    (row,) = data.rows
    learned = [token for token, counted in zip(row.tokens, row.counted, strict=True) if counted]
    assert tokenizer.decode(learned) == "Yes.<|end|>"
    assert tokenizer.decode(row.tokens).count("So.") == 1
    unmarked = [{key: value for key, value in turn.items() if key not in mark} for turn in turns]
    assert dataset.fingerprint != read_rows([{"messages": unmarked}]).fingerprint
    assert read_rows(dataset.rows()) == dataset
    # What follows the last answer that is learned cannot be learned from.
    data = tokenize(read_rows([{"messages": [*turns[2:], USER, turns[1]]}]), tokenizer, 200)
    assert tokenizer.decode(data.learned(0).tokens).endswith("Yes.<|end|>")
    assert faults({"messages": [USER, {**ANSWER, **mark}]}, "chat") == ["messages"]


def test_a_system_prompt_beside_the_turns_is_the_first_turn() -> None:
    assert chat(USER, ANSWER, system="Be brief.") == chat(*TURNS, ANSWER)
    shared = ROWS["sharegpt"][1]
    assert read_rows([{**shared, "system": "Be brief."}]).examples == read_rows([ROWS["sharegpt"][0]]).examples
    assert faults({"messages": [*TURNS, ANSWER], "system": "Be long."}, "chat") == ["system"]
    assert faults({"messages": [USER, ANSWER], "system": 3}, "chat") == ["system"]


def test_roles_and_parts_of_text() -> None:
    assert chat({"role": "developer", "content": "Be brief."}, USER, ANSWER) == chat(*TURNS, ANSWER)
    parts = [{"type": "text", "text": "Wh"}, {"type": "text", "text": "y?"}]
    assert chat({"role": "user", "content": parts}, ANSWER) == chat(USER, ANSWER)


def test_calls_of_tools_become_what_templates_take() -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    result = {"role": "tool", "tool_call_id": "c1", "name": "add", "content": "1"}
    found = chat(USER, call, result, ANSWER, tools=[TOOL])
    assert found.messages[1].turn() == {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "add", "arguments": {"a": 1}}}],
    }
    assert found.messages[2].turn() == {"role": "tool", "content": "1", "tool_call_id": "c1", "name": "add"}
    assert json.loads(found.tools) == [TOOL]
    flat = {**call, "tool_calls": [{"id": "c1", "name": "add", "arguments": {"a": 1}}]}
    assert chat(USER, flat, result, ANSWER, tools=json.dumps([TOOL])) == found
    assert read_rows([found.row()]).examples == (found,)


def test_a_conversation_in_two_parts_learns_the_second() -> None:
    first = {"role": "assistant", "content": "Well."}
    (found,) = read_rows([{"prompt": [USER, first, USER], "completion": [ANSWER]}]).examples
    assert found == Chat(
        (
            Message("user", "Why?"),
            Message("assistant", "Well.", learned=False),
            Message("user", "Why?"),
            Message("assistant", "So."),
        )
    )
    assert read_rows([found.row()]).examples == (found,)
    assert faults({"prompt": [USER], "completion": [USER]}, "chat-completion") == ["completion"]
    assert faults({"prompt": [], "completion": [ANSWER]}, "chat-completion") == ["prompt"]
    mixed = [*ROWS["chat-completion"], {"prompt": "a", "completion": "b"}]
    assert faults_of(lines(mixed)) == [("line 3", "prompt"), ("line 3", "completion")]


def test_fields_that_are_not_used_are_counted() -> None:
    rows: list[dict[str, Any]] = [
        {
            "messages": [{**USER, "id": 1, "name": "Ann"}, {**ANSWER, "id": 2}],
            "note": "x",
            "parallel_tool_calls": False,
        },
        {"messages": [USER, ANSWER], "note": "y", "empty": "", "nothing": None},
    ]
    found = read_rows(rows).remarks
    assert found.ignored == {
        "note": 2,
        "messages[].id": 1,
        "messages[].name": 1,
        "parallel_tool_calls": 1,
    }
    assert next(iter(found.ignored)) == "note"
    assert statistics(read_rows(rows), byte_tokenizer(), 200)["ignored"] == found.ignored
    many = [{"prompt": "a", "completion": "b", **{f"x{i}": 1 for i in range(MOST_NAMES + 50)}}] * 2
    counted = read_rows(many).remarks.ignored
    assert (len(counted), counted[OTHERS]) == (MOST_NAMES + 1, 2)
    assert read_dataset(b"text,label,id\ngood,x,1\nbad,y,2\n").remarks.ignored == {"id": 2}


def test_benchmark_rows_tell_what_they_do_not_use() -> None:
    assert read_rows([CASES["sst2"].row], benchmark="sst2").remarks.ignored.keys() <= {"idx"}
    assert read_rows([{**CASES["rte"].row, "note": 1}], benchmark="rte").remarks.ignored["note"] == 1


def test_labels_as_data_frames_write_them() -> None:
    rows = [{"text": "a", "label": 0.0}, {"text": "b", "label": 1.0}, {"text": "c", "label": 1}]
    assert read_rows(rows).labels == ("0", "1")
    assert faults({"text": "a", "label": 0.5}, "classification") == ["label"]
    question = {"prompt": "a", "choices": ["b", "c"], "answer": 1.0}
    assert read_rows([question]) == read_rows([{**question, "answer": 1}])
    assert read_rows([{**CASES["rte"].row, "label": 1.0}], benchmark="rte") == read_rows(
        [{**CASES["rte"].row, "label": 1}], benchmark="rte"
    )


def test_labels_that_differ_in_blanks_only_are_one_class_and_it_is_told() -> None:
    dataset = read_rows([{"text": "a", "label": "x"}, {"text": "b", "label": "x "}, {"text": "c", "label": "y"}])
    assert dataset.labels == ("x", "y")
    assert warnings_of(dataset) == ["blanks around the label are left out in 1 row"]
    assert dataset.examples[1] == Labelled("b", "x")


def test_a_single_class_is_told() -> None:
    one = read_rows([{"text": "a", "label": "x"}])
    assert warnings_of(one) == [
        "the only row has the label 'x', so there is nothing to choose between: add rows of other labels, or "
        "name the options"
    ]
    two = read_rows([{"text": "a", "label": "x"}, {"text": "b", "label": "x"}])
    assert statistics(two, byte_tokenizer(), 64)["warnings"][0].startswith("all rows have the label 'x'")


def test_an_option_that_does_not_fit_names_the_first_row_with_it() -> None:
    rows = [{"text": "a", "label": "x"}, {"text": "b", "label": "y" * 20}, {"text": "c", "label": "y" * 20}]
    with pytest.raises(
        DatasetError, match="leaves no room for a prompt in 16 tokens; line 2, field 'label'"
    ) as caught:
        statistics(read_rows(rows), byte_tokenizer(), 16)
    assert [fault.where for fault in caught.value.faults] == ["line 2"]


def test_alpaca_rows_with_a_system_prompt_are_not_learned_without_it() -> None:
    row = {"instruction": "Say hi.", "output": "hi"}
    assert read_rows([row]).examples == (Completion(WITHOUT_INPUT.replace("{instruction}", "Say hi."), "hi"),)
    with pytest.raises(DatasetError, match=r"field 'system': found 'Be rude\.'; write it into"):
        read_rows([{**row, "system": "Be rude."}])


def test_a_misspelt_field_is_named_beside_the_one_that_is_missing() -> None:
    with pytest.raises(DatasetError, match=r"found nothing; .* is 'completon' meant to be 'completion'"):
        read_rows([{"prompt": "a", "completon": "b", "comment": "c"}])
    with pytest.raises(DatasetError) as caught:
        read_rows([{"prompt": "a", "comment": "c"}])
    assert "meant to be" not in str(caught.value)
