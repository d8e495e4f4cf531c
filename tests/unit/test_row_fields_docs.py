"""The table of fields in `docs/data.md` is what reading does, for each format and field that it names."""

import re
from typing import Any

import pytest

from steerzo_edge.data.examples import Dataset
from steerzo_edge.data.formats import FIELDS
from steerzo_edge.data.meanings import CONVERSATIONS, EVERYWHERE, PROMPTS, TURNS
from steerzo_edge.data.reading import read_rows
from steerzo_edge.errors import DatasetError
from tests.docs.blocks import ROOT
from tests.unit.format_rows import ANSWER, ROWS

LINE = re.compile(
    r"^\| (all|`[^|]*`) \| (row|turn|tool's turn) \| (.*?) \| (honoured|refused|counted) \| (.*) \|$", re.M
)
TABLE = LINE.findall((ROOT / "docs" / "data.md").read_text())
USER = {"role": "user", "content": "Why?"}
TURNS_OF = {
    "chat": {"messages": [USER, ANSWER, USER, ANSWER]},
    "sharegpt": {"conversations": [{"from": one["role"], "value": one["content"]}
                                   for one in (USER, ANSWER, USER, ANSWER)]},
    "chat-completion": {"prompt": [USER], "completion": [ANSWER, USER, ANSWER]},
}  # fmt: skip
SAMPLES: dict[str, Any] = {
    "weight": 0,
    "train": False,
    "loss": 0,
    "label": False,
    "kto_tag": False,
    "references": ["b", "c"],
    "tools": [{"type": "function", "function": {"name": "f"}}],
    "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}],
}


def words(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


CASES = [
    (format, part, field, outcome)
    for formats, part, fields, outcome, _ in TABLE
    for format in (FIELDS if formats == "all" else words(formats))
    for field in words(fields)
]


def changed(format: str, part: str, field: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A row without the field, and with it."""
    value = SAMPLES.get(field, "x")
    if part == "row":
        row: dict[str, Any] = ROWS[format][1]
        return row, {**row, field: value}
    row = TURNS_OF[format]
    place = "completion" if format == "chat-completion" else next(iter(row))
    first = 0 if format == "chat-completion" else 1
    turns = list(row[place])
    role, content = ("from", "value") if format == "sharegpt" else ("role", "content")
    if part == "tool's turn":
        turns[first:first] = [{role: "tool", content: "2"}]
        row = {**row, place: turns}
        turns = list(turns)
    turns[first] = {**turns[first], field: value}
    return row, {**row, place: turns}


@pytest.mark.parametrize(("format", "part", "field", "outcome"), CASES)
def test_a_line_of_the_table(format: str, part: str, field: str, outcome: str) -> None:
    without, given = changed(format, part, field)
    plain = read_rows([without], format=format)
    try:
        found: Dataset | DatasetError = read_rows([given], format=format)
    except DatasetError as error:
        found = error
    if isinstance(found, DatasetError):
        assert outcome == "refused"
        assert [fault.field.rsplit(".", 1)[-1] for fault in found.faults] == [field]
        return
    assert outcome == ("honoured" if found.examples != plain.examples else "counted")
    counted = {name.rsplit(".", 1)[-1] for name in found.remarks.ignored}
    assert counted == ({field} if outcome == "counted" else set())


def test_every_field_that_is_refused_is_in_the_table() -> None:
    listed = {(part, field) for _, part, field, outcome in CASES if outcome == "refused"}
    expected = {("row", field) for field in {*EVERYWHERE, *PROMPTS, *CONVERSATIONS}} | {
        ("turn", field) for field in TURNS
    }
    assert expected <= listed
    assert {format for format, *_ in CASES} == set(FIELDS)
