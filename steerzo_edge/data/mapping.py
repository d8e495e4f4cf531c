"""Other names for the fields of rows: prompt=question,completion=answer reads `question` as `prompt`."""

from collections.abc import Iterator, Mapping

from steerzo_edge.data.containers import Source
from steerzo_edge.data.rows import Faults, Row
from steerzo_edge.errors import Fault, InputError

MOST_NAMES = 32
_HINT = "For example prompt=question,completion=answer: the name that a format needs, then the name in the file."


def parsed_map(text: str) -> dict[str, str]:
    """The names that a format needs, and the names in the file, as "prompt=question,completion=answer" says.

    Raises:
        InputError: If the text is not of this form, or names a field twice.
    """
    found: dict[str, str] = {}
    for pair in text.split(","):
        name, equals, written = (part.strip() for part in pair.partition("="))
        if not (name and equals and written):
            raise InputError(f"map: {pair.strip()!r} is not name=field", hint=_HINT)
        if name in found or written in found.values():
            raise InputError(f"map: {pair.strip()!r} names a field a second time", hint=_HINT)
        found[name] = written
    if len(found) > MOST_NAMES:
        raise InputError(f"map: {len(found)} names, at most {MOST_NAMES} are taken", hint=_HINT)
    return found


def mapped(source: Source, names: Mapping[str, str]) -> Source:
    """Rows with other names for their fields; a row that has a field of the new name too adds a fault.

    Args:
        source: The rows as they are in the file.
        names: As `parsed_map` gives them.
    """

    def rows(faults: Faults) -> Iterator[Row]:
        written = set(names.values())
        for line, row in source.rows(faults):
            twice = [name for name, field in names.items() if name in row and name not in written and field in row]
            for name in twice:
                fix = f"leave one of {name!r} and {names[name]!r} out: both would be {name!r}"
                faults.append(Fault(f"line {line}", name, "a field of this name", fix))
            if not twice:
                others = {key: value for key, value in row.items() if key not in written}
                yield line, others | {name: row[field] for name, field in names.items() if field in row}

    return Source(rows, source.container)
