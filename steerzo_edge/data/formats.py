"""The formats that rows are written in: the fields each has, and which of them a file's rows have.

A format is found by its fields. Where two fit equally well, or a wrong guess would be expensive, it must be named.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from steerzo_edge.data.examples import Format
from steerzo_edge.data.rows import Row
from steerzo_edge.errors import DatasetError, Fault

FIELDS: dict[Format, tuple[str, ...]] = {
    "chat": ("messages",),
    "completion": ("prompt", "completion"),
    "classification": ("text", "label"),
    "multiple-choice": ("prompt", "choices", "answer"),
    "alpaca": ("instruction", "output"),
    "sharegpt": ("conversations",),
    "plain": ("text",),
}
KNOWN = "; ".join(f"{name}: {', '.join(fields)}" for name, fields in FIELDS.items())


def named_format(name: str) -> Format:
    """A format by its name.

    Raises:
        DatasetError: If there is none of this name; the hint lists them.
    """
    for format in FIELDS:
        if format == name:
            return format
    raise DatasetError(f"there is no format {name!r}", hint=f"There are: {', '.join(FIELDS)}.")


def format_of(rows: Iterable[Row], name: str) -> Format | None:
    """The format most rows have all fields of; partial matches count where no row has all of any.

    Args:
        rows: Read once, to their end.
        name: What to call the file.

    Returns:
        None if there are no rows.

    Raises:
        DatasetError: If no field of any format occurs, or two formats fit equally well.
    """
    seen = _Seen()
    for line, row in rows:
        seen.add(line, row.keys())
    if seen.first is None:
        return None
    ranks = {format: seen.rank(format) for format in FIELDS}
    best = max(ranks, key=lambda format: ranks[format])
    if ranks[best] == (0, 0):
        raise _unknown(name, *seen.first)
    equal = [format for format in FIELDS if ranks[format][0] == ranks[best][0] > 0 and not _within(format, best)]
    if len(equal) > 1:
        raise _ambiguous(name, seen.first[0], equal)
    return best


@dataclass(slots=True)
class _Seen:
    """How many rows have how many fields of each format.

    Args:
        first: Line and fields of the first row.
        only_text: Whether no row has a field beside `text`.
    """

    first: tuple[int, str] | None = None
    only_text: bool = True
    whole: dict[Format, int] = field(default_factory=lambda: dict.fromkeys(FIELDS, 0))
    parts: dict[Format, int] = field(default_factory=lambda: dict.fromkeys(FIELDS, 0))

    def add(self, line: int, names: Iterable[str]) -> None:
        present = set(names)
        if self.first is None:
            listed = ", ".join(map(str, names)) or "no fields"
            self.first = (line, listed if len(listed) <= 200 else listed[:197] + "...")
        self.only_text = self.only_text and present <= {"text"}
        for format, fields in FIELDS.items():
            count = sum(name in present for name in fields)
            self.parts[format] += count
            self.whole[format] += count == len(fields)

    def rank(self, format: Format) -> tuple[int, int]:
        # A misspelt `label` must not turn classes into plain text.
        if format == "plain" and not self.only_text:
            return (0, 0)
        return (self.whole[format], self.parts[format])


def _within(format: Format, best: Format) -> bool:
    return format != best and set(FIELDS[format]) < set(FIELDS[best])


def _unknown(name: str, line: int, seen: str) -> DatasetError:
    return DatasetError(
        f"{name}: no known format; line {line} has the fields {seen}",
        faults=[Fault(f"line {line}", "", f"fields {seen}", f"name them by one of the formats ({KNOWN})")],
        hint=f"Known formats: {KNOWN}.",
    )


def _ambiguous(name: str, line: int, formats: list[Format]) -> DatasetError:
    listed = " and ".join(f"{format} ({', '.join(FIELDS[format])})" for format in formats)
    return DatasetError(
        f"{name}: the rows fit {listed} equally well",
        faults=[Fault(f"line {line}", "", f"the fields of {listed}", "name the format, or leave fields out")],
        hint=f"Name the format: {' or '.join(f'format={format}' for format in formats)}.",
    )
