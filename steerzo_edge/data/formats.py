"""Recognizes the kind of a file's rows by their fields.

Where two kinds fit equally well, or a wrong guess would be expensive, the user must name the format.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from steerzo_edge.data.kinds import KINDS
from steerzo_edge.data.kinds.kind import RowKind
from steerzo_edge.data.rows import Row
from steerzo_edge.errors import DatasetError, Fault

FIELDS: dict[str, tuple[str, ...]] = {kind.name: kind.fields for kind in KINDS.values()}
KNOWN = "; ".join(f"{name}: {', '.join(fields)}" for name, fields in FIELDS.items())


def kind_of(rows: Iterable[Row], name: str) -> RowKind | None:
    """The kind that most rows have all fields of; if no row is complete for any kind, the one with most fields.

    Args:
        rows: Read once, to their end.
        name: What to call the file.

    Returns:
        None if there are no rows.

    Raises:
        DatasetError: If no field of any kind occurs, or two kinds fit equally well.
    """
    seen = _Seen()
    for line, row in rows:
        seen.add(line, row)
    if seen.first is None:
        return None
    ranks = {kind: seen.rank(kind) for kind in KINDS}
    best = max(ranks, key=lambda kind: ranks[kind])
    if ranks[best] == (0, 0):
        raise _unknown(name, *seen.first)
    equal = [kind for kind in KINDS if ranks[kind][0] == ranks[best][0] > 0 and not _within(kind, best)]
    if len(equal) > 1:
        raise _ambiguous(name, seen.first[0], equal)
    return KINDS[best]


@dataclass(slots=True)
class _Seen:
    """How many rows have how many fields of each kind.

    Args:
        first: Line and fields of the first row.
        whole: By kind, the number of rows that have all its fields.
        parts: By kind, the number of its fields that occur, summed over the rows.
        others: The kinds for which some row has a field too many: one that the kind does not have.
    """

    first: tuple[int, str] | None = None
    whole: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    parts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    others: set[str] = field(default_factory=set)

    def add(self, line: int, row: Mapping[str, Any]) -> None:
        names = row.keys()
        if self.first is None:
            listed = ", ".join(map(str, names)) or "no fields"
            self.first = (line, listed if len(listed) <= 200 else listed[:197] + "...")
        for kind, fields in FIELDS.items():
            lists = KINDS[kind].lists
            count = sum(name in row and lists in (None, isinstance(row[name], list)) for name in fields)
            self.parts[kind] += count
            self.whole[kind] += count == len(fields)
            if count < len(names):
                self.others.add(kind)

    def rank(self, kind: str) -> tuple[int, int]:
        if kind in self.others and KINDS[kind].only_these_fields:
            return (0, 0)
        return (self.whole[kind], self.parts[kind])


def _within(kind: str, best: str) -> bool:
    """Whether the best kind has all fields of this one and more."""
    return set(FIELDS[kind]) < set(FIELDS[best])


def _unknown(name: str, line: int, seen: str) -> DatasetError:
    return DatasetError(
        f"{name}: no known format; line {line} has the fields {seen}",
        faults=[Fault(f"line {line}", "", f"fields {seen}", f"use the field names of one format ({KNOWN})")],
        hint=f"Known formats: {KNOWN}.",
    )


def _ambiguous(name: str, line: int, kinds: list[str]) -> DatasetError:
    listed = " and ".join(f"{kind} ({', '.join(FIELDS[kind])})" for kind in kinds)
    return DatasetError(
        f"{name}: the rows fit {listed} equally well",
        faults=[Fault(f"line {line}", "", f"the fields of {listed}", "name the format, or leave fields out")],
        hint=f"Name the format: {' or '.join(f'format={kind}' for kind in kinds)}.",
    )
