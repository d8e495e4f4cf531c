"""A row's fields, read with their types checked; what is wrong is collected, so that all of it is told at once."""

from collections.abc import Iterator, Mapping
from typing import Any

from steerzo_edge.data.rows import shown
from steerzo_edge.errors import Fault


class Fields:
    """An object of a row: the row itself, or one inside it.

    Args:
        values: The object.
        line: Where the row began in its file, from 1.
        faults: Grows by one fault for each field that cannot be used; a value of the right type is given instead.
        path: Where the object stands in the row, "" for the row itself.
    """

    def __init__(self, values: Mapping[str, Any], line: int, faults: list[Fault], path: str = "") -> None:
        self._values = values
        self._line = line
        self._faults = faults
        self._path = path

    def has(self, name: str) -> bool:
        """Whether the field is there."""
        return name in self._values

    def nests(self, name: str) -> bool:
        """Whether the field is an object."""
        return isinstance(self._values.get(name), Mapping)

    def text(self, name: str, *, may_be_empty: bool = False) -> str:
        """A text."""
        value = self._values.get(name)
        if isinstance(value, str) and (may_be_empty or value.strip()):
            return value
        self.refuse(name, "it must be a text" if may_be_empty else "it must be a text that is not empty")
        return ""

    def optional_text(self, name: str) -> str:
        """A text that may be missing, null or empty."""
        return self.text(name, may_be_empty=True) if self._values.get(name) is not None else ""

    def texts(self, name: str, *, least: int = 1) -> tuple[str, ...]:
        """A list of texts, none empty.

        Args:
            name: Of the field.
            least: Fewest texts it must hold.
        """
        value = self._values.get(name)
        if isinstance(value, list) and len(value) >= least and all(isinstance(v, str) and v.strip() for v in value):
            return tuple(value)
        self.refuse(name, f"it must be a list of at least {least} texts that are not empty")
        return ()

    def whole(self, name: str) -> int:
        """A whole number, not below 0."""
        value = self._values.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
        self.refuse(name, "it must be a whole number, not below 0")
        return 0

    def label(self, name: str = "label") -> str:
        """The name of a class: a text, a whole number, or true and false."""
        value = self._values.get(name)
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, int) or (isinstance(value, str) and value.strip()):
            return str(value)
        self.refuse(name, "it must be the name of a class: a text or a whole number")
        return ""

    def one_of(self, name: str, spellings: Mapping[str, str]) -> str:
        """A class out of those known.

        Args:
            name: Of the field.
            spellings: How each may be written (true and false in lower case), and what it is called here.
        """
        value = self._values.get(name)
        written = str(value).lower() if isinstance(value, bool) else str(value)
        if isinstance(value, str | int) and written in spellings:
            return spellings[written]
        self.refuse(name, f"it must be one of {', '.join(spellings)}")
        return next(iter(spellings.values()))

    def indices(self, name: str, below: int) -> tuple[int, ...]:
        """An index or a list of indices, from 0, each below a bound."""
        value = self._values.get(name)
        found = value if isinstance(value, list) else [value]
        whole = [index for index in found if isinstance(index, int) and not isinstance(index, bool)]
        if whole and len(whole) == len(found) and all(0 <= index < below for index in whole):
            return tuple(dict.fromkeys(whole))
        self.refuse(
            name, f"it must be the index of the right choice, from 0 to {max(below, 1) - 1}, or a list of them"
        )
        return ()

    def inside(self, name: str) -> "Fields":
        """An object inside this one."""
        value = self._values.get(name)
        if not isinstance(value, Mapping):
            self.refuse(name, "it must be an object")
            return Fields({}, self._line, [], self._at(name))  # its fields are not refused as well
        return Fields(value, self._line, self._faults, self._at(name))

    def each(self, name: str, *, least: int = 1) -> Iterator["Fields"]:
        """The objects of a list.

        Args:
            name: Of the field.
            least: Fewest objects it must hold.
        """
        value = self._values.get(name)
        if not isinstance(value, list) or len(value) < least:
            self.refuse(name, f"it must be a list of at least {least} objects")
            return
        for index, member in enumerate(value):
            place = f"{self._at(name)}[{index}]"
            if isinstance(member, Mapping):
                yield Fields(member, self._line, self._faults, place)
            else:
                self._faults.append(Fault(f"line {self._line}", place, shown(member), "it must be an object"))

    def refuse(self, name: str, fix: str) -> None:
        """Notes that a field cannot be used.

        Args:
            name: Of the field.
            fix: What it must be.
        """
        found = shown(self._values[name]) if name in self._values else "nothing"
        self._faults.append(Fault(f"line {self._line}", self._at(name), found, fix))

    def _at(self, name: str) -> str:
        return f"{self._path}.{name}" if self._path else name
