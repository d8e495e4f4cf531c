"""A file of JSON lines or CSV to a Dataset, or one error that names every bad row.

The format is found by looking at the fields. Bytes are decoded strictly: a binary file is refused, not guessed.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from steerzo_edge.data.examples import Chat, Completion, Dataset, Example, Format, Labelled, Message
from steerzo_edge.data.task import Task
from steerzo_edge.errors import DatasetError, Fault

SHOWN_FAULTS = 100
FIELDS: dict[Format, tuple[str, ...]] = {
    "chat": ("messages",),
    "completion": ("prompt", "completion"),
    "classification": ("text", "label"),
}
ROLES = ("system", "user", "assistant")
_FORMATS = "; ".join(f"{name}: {', '.join(fields)}" for name, fields in FIELDS.items())

Row = tuple[int, Mapping[str, Any]]


def read_dataset(data: bytes, *, name: str = "dataset", task: Task | None = None) -> Dataset:
    """Parses a whole file.

    Args:
        data: Its bytes, UTF-8.
        name: Its name; ".csv" is read as CSV, all else by its first character.
        task: How labelled rows are put to the model.

    Raises:
        DatasetError: If it is empty, not text, of no known format, or has bad rows.
    """
    text = _decoded(data, name)
    faults: list[Fault] = []
    if name.lower().endswith(".csv") or not text.lstrip().startswith(("{", "[")):
        rows = list(_csv_rows(text, faults))
    else:
        rows = list(_json_rows(text, faults))
    return _dataset(rows, faults, name, task)


def read_rows(rows: Sequence[Any], *, name: str = "rows", task: Task | None = None) -> Dataset:
    """The same for rows that came inside a JSON body; they are counted from 1.

    Raises:
        DatasetError: As `read_dataset`.
    """
    if not rows:
        raise DatasetError(f"{name}: no rows", hint="Send at least one row.")
    faults: list[Fault] = []
    objects = []
    for number, row in enumerate(rows, 1):
        if isinstance(row, Mapping):
            objects.append((number, row))
        else:
            faults.append(Fault(f"line {number}", "", _shown(row), "every row must be a JSON object"))
    return _dataset(objects, faults, name, task)


def _dataset(rows: list[Row], faults: list[Fault], name: str, task: Task | None) -> Dataset:
    if not rows and not faults:
        raise DatasetError(f"{name}: no rows", hint="The file needs at least one row of data.")
    examples: list[Example] = []
    lines: list[int] = []
    found = _format(rows, name) if rows else "completion"
    for line, row in rows:
        example = _example(found, line, row, faults)
        if example is not None:
            examples.append(example)
            lines.append(line)
    if faults:
        raise _unusable(name, sorted(faults, key=_line), {line for line, _ in rows})
    if found == "classification":
        task = task or Task()
    return Dataset(found, tuple(examples), tuple(lines), task if found == "classification" else None)


def _unusable(name: str, faults: list[Fault], lines: set[int]) -> DatasetError:
    bad = {_line(fault) for fault in faults}
    more = f" (the first {SHOWN_FAULTS} faults are listed)" if len(faults) > SHOWN_FAULTS else ""
    return DatasetError(
        f"{name}: {len(bad)} of {len(bad | lines)} rows cannot be used{more}; {faults[0]}",
        faults=faults[:SHOWN_FAULTS],
    )


def _decoded(data: bytes, name: str) -> str:
    if not data.strip():
        raise DatasetError(f"{name}: the file is empty", hint="Upload a file with at least one row.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DatasetError(
            f"{name}: line {line} holds byte 0x{data[error.start]:02x}, which is not UTF-8 text",
            faults=[Fault(f"line {line}", "", f"byte 0x{data[error.start]:02x}", "save the file as UTF-8 text")],
            hint="Upload JSON lines or CSV, saved as UTF-8.",
        ) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DatasetError(
            f"{name}: line {line} holds a NUL character; this looks like a binary file",
            faults=[Fault(f"line {line}", "", "a NUL character", "upload text")],
            hint="Upload JSON lines or CSV, saved as UTF-8.",
        )
    return text


def _json_rows(text: str, faults: list[Fault]) -> Iterator[Row]:
    if text.lstrip().startswith("["):
        raise DatasetError(
            "the file is one JSON array",
            hint="Write one object a line (JSON lines): `jq -c '.[]' data.json > data.jsonl`.",
        )
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            column = f" at column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
            mend = f"one JSON object a line; {getattr(error, 'msg', 'it is nested too deeply')}{column}"
            faults.append(Fault(f"line {number}", "", _shown(line), mend))
            continue
        if isinstance(row, dict):
            yield number, row
        else:
            faults.append(Fault(f"line {number}", "", _shown(row), "every line must be a JSON object"))


def _csv_rows(text: str, faults: list[Fault]) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    first = 1
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            faults.append(Fault(f"line {max(reader.line_num, 1)}", "", str(error), "mend the quoting of this row"))
            return
        if cells is None:
            return
        first, line = reader.line_num + 1, first
        if not cells:
            continue
        if header is None:
            header = [cell.strip() for cell in cells]
        elif len(cells) != len(header):
            mend = f"the header names {len(header)}; quote a cell that holds a comma"
            faults.append(Fault(f"line {line}", "", f"{len(cells)} cells", mend))
        else:
            yield line, dict(zip(header, cells, strict=True))


def _format(rows: Sequence[Row], name: str) -> Format:
    """The format most rows have all fields of; ties and partial matches go by how many fields are there."""

    def matches(fields: Iterable[str]) -> tuple[int, int]:
        counts = [sum(field in row for field in fields) for _, row in rows]
        return sum(count == len(FIELDS[kind]) for count in counts), sum(counts)

    scores: dict[Format, tuple[int, int]] = {}
    for kind, fields in FIELDS.items():
        scores[kind] = matches(fields)
    best = max(scores, key=lambda kind: scores[kind])
    if scores[best] == (0, 0):
        line, row = rows[0]
        seen = ", ".join(map(str, row)) or "no fields"
        raise DatasetError(
            f"{name}: no known format; line {line} has the fields {seen}",
            faults=[Fault(f"line {line}", "", f"fields {seen}", f"name them by one of the formats ({_FORMATS})")],
            hint=f"Known formats: {_FORMATS}.",
        )
    return best


def _example(kind: Format, line: int, row: Mapping[str, Any], faults: list[Fault]) -> Example | None:
    before = len(faults)
    where = f"line {line}"
    if kind == "chat":
        messages = _messages(where, row, faults)
        return None if len(faults) > before else Chat(messages)
    if kind == "classification":
        text = _text(where, "text", row, faults)
        label = _label(where, row, faults)
        return None if len(faults) > before else Labelled(text, label)
    prompt = _text(where, "prompt", row, faults)
    completion = _text(where, "completion", row, faults)
    return None if len(faults) > before else Completion(prompt, completion)


def _text(where: str, field: str, row: Mapping[str, Any], faults: list[Fault]) -> str:
    value = row.get(field)
    if isinstance(value, str) and value.strip():
        return value
    found = "nothing" if field not in row else _shown(value)
    faults.append(Fault(where, field, found, "it must be a text that is not empty"))
    return ""


def _label(where: str, row: Mapping[str, Any], faults: list[Fault]) -> str:
    value = row.get("label")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) or (isinstance(value, str) and value.strip()):
        return str(value)
    found = "nothing" if "label" not in row else _shown(value)
    faults.append(Fault(where, "label", found, "it must be the name of a class: a text or a whole number"))
    return ""


def _messages(where: str, row: Mapping[str, Any], faults: list[Fault]) -> tuple[Message, ...]:
    value = row.get("messages")
    if not isinstance(value, list) or not value:
        found = "nothing" if "messages" not in row else _shown(value)
        faults.append(Fault(where, "messages", found, 'it must be a list of {"role", "content"}'))
        return ()
    messages = []
    for index, message in enumerate(value):
        field = f"messages[{index}]"
        if not isinstance(message, dict):
            faults.append(Fault(where, field, _shown(message), 'it must be {"role", "content"}'))
        elif message.get("role") not in ROLES:
            shown = _shown(message.get("role"))
            faults.append(Fault(where, f"{field}.role", shown, f"it must be one of {', '.join(ROLES)}"))
        elif not isinstance(message.get("content"), str) or not message["content"].strip():
            shown = _shown(message.get("content"))
            faults.append(Fault(where, f"{field}.content", shown, "it must be a text that is not empty"))
        else:
            messages.append(Message(message["role"], message["content"]))
    if len(messages) == len(value) and messages[-1].role != "assistant":
        faults.append(
            Fault(where, "messages", f"last role {messages[-1].role!r}", "end with the assistant's answer")
        )
    return tuple(messages)


def _line(fault: Fault) -> int:
    return int(fault.where.rsplit(" ", 1)[-1])


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return repr(text if len(text) <= 60 else text[:57] + "...")
