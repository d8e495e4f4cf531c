"""Text to rows: JSON lines, a JSON array or CSV; each row with the line it began in, its fields not yet checked.

Bytes are decoded strictly, so a binary file is rejected. Rows are made one at a time, because parsed JSON may take
twenty times as much memory as its text.
"""

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from steerzo_edge.errors import DatasetError, Fault

Row = tuple[int, Mapping[str, Any]]
MOST_FAULTS = 10_000
# Limits of one row of JSON lines and of a whole JSON array, applied before they are parsed into objects.
MOST_ROW_CHARACTERS = 16 << 20
MOST_ARRAY_CHARACTERS = 64 << 20
_BLANK = re.compile(r"[ \t\n\r]*")


class Faults(list[Fault]):
    """The faults found so far, at most `MOST_FAULTS`."""

    @property
    def full(self) -> bool:
        """Whether the limit is reached."""
        return len(self) >= MOST_FAULTS

    def append(self, fault: Fault) -> None:
        """Adds a fault, unless the limit is reached."""
        if not self.full:
            super().append(fault)


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
            hint="Upload JSON lines, JSON or CSV, saved as UTF-8, or Parquet.",
        ) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DatasetError(
            f"{name}: line {line} holds a NUL character; this looks like a binary file",
            faults=[Fault(f"line {line}", "", "a NUL character", "upload text")],
            hint="Upload JSON lines, JSON or CSV, saved as UTF-8, or Parquet.",
        )
    return text


def json_rows(text: str, faults: Faults) -> Iterator[Row]:
    """The objects of JSON lines; a line that is not a JSON object adds a fault."""
    number, end = 0, -1
    while end < len(text) and not faults.full:
        # Blank lines are skipped together: a file may hold millions of them.
        start = _after_blanks(text, end + 1)
        number += 1 + text.count("\n", end + 1, start)
        newline = text.find("\n", start)
        end = len(text) if newline < 0 else newline
        line = text[start:end]
        if not line.strip():
            continue
        if len(line) > MOST_ROW_CHARACTERS:
            found, fix = f"a line of {len(line):,} characters", f"at most {MOST_ROW_CHARACTERS:,}"
            faults.append(Fault(f"line {number}", "", found, fix))
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            faults.append(Fault(f"line {number}", "", shown(line), f"one JSON object a line; {_reason(error)}"))
            continue
        if isinstance(row, dict):
            if "\\u" not in line or is_text(row, number, faults):
                yield number, row
        else:
            faults.append(Fault(f"line {number}", "", shown(row), "every line must be a JSON object"))


def json_array_rows(text: str, faults: Faults, name: str) -> Iterator[Row]:
    """The objects of a JSON array; a member that is not an object adds a fault, and so does broken JSON.

    Raises:
        DatasetError: If the array is too long; JSON lines may be longer.
    """
    if len(text) > MOST_ARRAY_CHARACTERS:
        raise DatasetError(
            f"{name}: a JSON array of {len(text):,} characters, at most {MOST_ARRAY_CHARACTERS:,} are read",
            hint="Write one object a line (JSON lines): `jq -c '.[]' data.json > data.jsonl`.",
        )
    decoder = json.JSONDecoder()
    line, counted = 1, 0
    place = _after_blanks(text, text.index("[") + 1)
    closed = text.startswith("]", place)
    while not closed:
        line, counted = line + text.count("\n", counted, place), place
        try:
            row, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            at = error.lineno if isinstance(error, json.JSONDecodeError) else line
            faults.append(Fault(f"line {at}", "", shown(text[place : place + 61]), f"JSON; {_reason(error)}"))
            return
        if not isinstance(row, dict):
            faults.append(Fault(f"line {line}", "", shown(row), "every member of the array must be a JSON object"))
        elif text.find("\\u", place, end) < 0 or is_text(row, line, faults):
            yield line, row
        place = _after_blanks(text, end)
        closed = text.startswith("]", place)
        if not closed and not text.startswith(",", place):
            line += text.count("\n", counted, place)
            faults.append(Fault(f"line {line}", "", shown(text[place : place + 61]), "write a comma or ] here"))
            return
        place = place if closed else _after_blanks(text, place + 1)
    rest = _after_blanks(text, place + 1)
    if rest < len(text):
        line += text.count("\n", counted, rest)
        faults.append(Fault(f"line {line}", "", shown(text[rest : rest + 61]), "nothing may follow the array"))


def _after_blanks(text: str, place: int) -> int:
    blank = _BLANK.match(text, place)
    return place if blank is None else blank.end()


def _reason(error: ValueError | RecursionError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at column {error.colno}"
    return "it is nested too deeply" if isinstance(error, RecursionError) else "a number has too many digits"


def is_text(row: Mapping[str, Any], line: int, faults: list[Fault]) -> bool:
    """Whether all strings of a row that came as JSON can be encoded as UTF-8; if not, adds a fault.

    JSON's escapes can name half of a surrogate pair, which is not a character: no file and no tokenizer accepts it.
    """
    try:
        json.dumps(row, ensure_ascii=False, default=str).encode()
    except RecursionError:
        faults.append(Fault(f"line {line}", "", "a value that is nested too deeply", "nest it less deeply"))
        return False
    except UnicodeEncodeError as error:
        found = f"half of a surrogate pair, {error.object[error.start]!r}"
        faults.append(Fault(f"line {line}", "", found, "write whole characters"))
        return False
    return True


def csv_rows(text: str, faults: Faults) -> Iterator[Row]:
    """The rows of CSV by the names in its header; a row of another length adds a fault."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    first = 1
    while not faults.full:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            fix = "fix the quoting of this row, or shorten its longest cell"
            faults.append(Fault(f"line {max(reader.line_num, 1)}", "", str(error), fix))
            return
        if cells is None:
            return
        first, line = reader.line_num + 1, first
        if not cells:
            continue
        if header is None:
            header = [cell.strip() for cell in cells]
        elif len(cells) != len(header):
            fix = f"the header has {len(header)}; quote a cell that holds a comma"
            faults.append(Fault(f"line {line}", "", f"{len(cells)} cells", fix))
        else:
            yield line, dict(zip(header, cells, strict=True))


def line_of(fault: Fault) -> int:
    """The line that a row's fault is in."""
    return int(fault.where.rsplit(" ", 1)[-1])


def shown(value: Any) -> str:
    """A value as messages quote it, shortened to 60 characters."""
    try:
        text = value if isinstance(value, str) else json.dumps(value, default=str)
    except RecursionError:
        text = "a value that is nested too deeply"
    return repr(text if len(text) <= 60 else text[:57] + "...")
