"""Bytes to rows: JSON lines or CSV, each row with the line it began in. What a row means is decided elsewhere.

Bytes are decoded strictly: a binary file is refused, not guessed.
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from typing import Any

from steerzo_edge.errors import DatasetError, Fault

Row = tuple[int, Mapping[str, Any]]


def decoded(data: bytes, name: str) -> str:
    """The text of a file.

    Raises:
        DatasetError: If it is empty or not UTF-8 text.
    """
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


def json_rows(text: str, faults: list[Fault]) -> Iterator[Row]:
    """The objects of JSON lines; a line that is none is added to `faults`.

    Raises:
        DatasetError: If the text is one JSON array.
    """
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
            faults.append(Fault(f"line {number}", "", shown(line), mend))
            continue
        if isinstance(row, dict):
            if "\\u" not in line or is_text(row, number, faults):
                yield number, row
        else:
            faults.append(Fault(f"line {number}", "", shown(row), "every line must be a JSON object"))


def is_text(row: Mapping[str, Any], line: int, faults: list[Fault]) -> bool:
    """Whether all texts of a row that came as JSON can be written; if not, `faults` grows by one.

    JSON's escapes may name half of a surrogate pair, which is no character: no file and no tokenizer takes it.
    """
    try:
        json.dumps(row, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError as error:
        found = f"half of a surrogate pair, {error.object[error.start]!r}"
        faults.append(Fault(f"line {line}", "", found, "write whole characters"))
        return False
    return True


def csv_rows(text: str, faults: list[Fault]) -> Iterator[Row]:
    """The rows of CSV by the names in its header; a row of another length is added to `faults`."""
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


def line_of(fault: Fault) -> int:
    """The line a fault of a row names."""
    return int(fault.where.rsplit(" ", 1)[-1])


def shown(value: Any) -> str:
    """A value as messages quote it, shortened."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return repr(text if len(text) <= 60 else text[:57] + "...")
