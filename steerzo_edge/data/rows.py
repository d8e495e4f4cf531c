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
_SCALAR = r"""\s*"[^"\\]*"\s*:\s*(?:"[^"\\]*"|[\w.+-]+)\s*"""
_WRAPPER = re.compile(rf'\s*\{{(?:{_SCALAR},)*\s*"data"\s*:\s*\[')
_END_OF_WRAPPER = re.compile(rf"(?:,{_SCALAR})*\}}\s*")
_NAMES = {",": "a comma", ";": "a semicolon", "\t": "a tab"}
DELIMITERS = tuple(_NAMES)


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


def wrapped_array(text: str) -> int | None:
    """Where the array begins in a text that is one object with rows under `data`; None if it is no such text.

    Before the array, the object may have texts and numbers, such as a version.
    """
    found = _WRAPPER.match(text)
    if found is None:
        return None
    # JSON lines whose rows have a field `data`: the first line is an object of its own, and others follow.
    line, _, others = text.lstrip().partition("\n")
    if others.strip() and len(line) <= MOST_ROW_CHARACTERS:
        try:
            json.loads(line)
        except (ValueError, RecursionError):
            return found.end() - 1
        return None
    return found.end() - 1


def json_array_rows(text: str, faults: Faults, name: str, start: int) -> Iterator[Row]:
    """The objects of a JSON array; a member that is not an object adds a fault, and so does broken JSON.

    Args:
        text: The file.
        faults: Grows by what cannot be read.
        name: What to call the file.
        start: Where the array begins; if that is inside an object, the object must end after it.

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
    is_wrapped = text.lstrip().startswith("{")
    place = _after_blanks(text, start + 1)
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
    if is_wrapped:
        ended = _END_OF_WRAPPER.match(text, rest)
        rest, broken = (rest, True) if ended is None else (ended.end(), False)
    else:
        broken = False
    if rest < len(text) or broken:
        line += text.count("\n", counted, rest)
        fix = "only texts and numbers may follow the rows, then }" if is_wrapped else "nothing may follow the array"
        faults.append(Fault(f"line {line}", "", shown(text[rest : rest + 61]), fix))


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


def delimiter_of(text: str) -> str:
    """What separates the cells of CSV: a comma, unless the header is a single cell with it and several without."""
    header = text.lstrip().partition("\n")[0]
    cells = {delimiter: _cells(header, delimiter) for delimiter in DELIMITERS}
    return "," if cells[","] > 1 else max(DELIMITERS, key=lambda delimiter: cells[delimiter])


def _cells(line: str, delimiter: str) -> int:
    try:
        return len(next(csv.reader([line], delimiter=delimiter), []))
    except csv.Error:
        return 0


def csv_rows(text: str, delimiter: str, faults: Faults) -> Iterator[Row]:
    """The rows of CSV by the names in its header; a row of another length adds a fault.

    Args:
        text: The file.
        delimiter: What separates cells.
        faults: Grows by what cannot be read.
    """
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
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
            fix = f"the header has {len(header)}; quote a cell that holds {_NAMES[delimiter]}"
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
