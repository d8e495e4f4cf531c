"""Rows of every format with further fields that are known from other formats: none is dropped without a word."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steerzo_edge.data.meanings import CONVERSATIONS, PROMPTS, TURNS
from steerzo_edge.data.reading import read_rows
from steerzo_edge.errors import DatasetError
from tests.properties.tries import tried
from tests.unit.format_rows import ROWS

EVERY_FIELD = sorted(
    {*PROMPTS, *CONVERSATIONS, *(field for rows in ROWS.values() for row in rows for field in row)}
    | {
        "tools",
        "weight",
        "label",
        "kto_tag",
        "references",
        "input",
        "note",
        "id",
        "metadata",
        "parallel_tool_calls",
    }
)
OF_TURNS = sorted(
    {*TURNS, "weight", "train", "loss", "tool_calls", "tool_call_id", "name", "annotations", "id", "cache_control"}
)
values = st.one_of(
    st.sampled_from([0, 1, 0.0, 1.0, True, False, "x", "false", 2, ["x"], [{"x": 1}], {"x": 1}]),
    st.just([{"function": {"name": "f", "arguments": "{}"}}]),
    st.just([{"role": "assistant", "content": "a"}]),
)
TURNS_OF = {"chat": ("messages",), "sharegpt": ("conversations",), "chat-completion": ("prompt", "completion")}


def without_a_word(row: dict[str, Any], changed: dict[str, Any], format: str, field: str) -> bool:
    """Whether a field was dropped: no fault names it, it is not counted, and the example is the same without it."""
    try:
        found = read_rows([changed], format=format)
    except DatasetError as error:
        return not any(field in fault.field for fault in error.faults)
    same = found.examples == read_rows([row], format=format).examples
    return same and not any(field in name for name in found.remarks.ignored)


def means_the_same(field: str, value: Any) -> bool:
    """Whether the field says what is the case without it: the row is a good one, and is learned once."""
    if field in ("weight", "label", "kto_tag"):
        return value in (1, "1", "true") and not isinstance(value, list)
    return field in ("train", "loss") and value in (1,)


@pytest.mark.parametrize("format", ROWS)
@tried(150)
@given(field=st.sampled_from(EVERY_FIELD), value=values)
def test_no_field_of_a_row_is_dropped(format: str, field: str, value: Any) -> None:
    row = ROWS[format][0]
    if field in row or means_the_same(field, value):
        return
    assert not without_a_word(row, {**row, field: value}, format, field)


@pytest.mark.parametrize("format", TURNS_OF)
@tried(150)
@given(field=st.sampled_from(OF_TURNS), value=values, data=st.data())
def test_no_field_of_a_turn_is_dropped(format: str, field: str, value: Any, data: st.DataObject) -> None:
    row = ROWS[format][0]
    place = data.draw(st.sampled_from(TURNS_OF[format]))
    turns: list[dict[str, Any]] = row[place]
    index = data.draw(st.integers(0, len(turns) - 1))
    learned = turns[index].get("role", turns[index].get("from")) in ("assistant", "gpt")
    if means_the_same(field, value) and learned:
        return
    if field in ("weight", "train", "loss") and value in (0,) and not learned:
        return  # such a turn is never learned
    changed = [{**turn, field: value} if at == index else turn for at, turn in enumerate(turns)]
    if field in ("weight", "train", "loss") and value in (0,):
        with pytest.raises(DatasetError, match="not learned"):
            read_rows([{**row, place: changed}], format=format)
        return
    assert not without_a_word(row, {**row, place: changed}, format, field)
