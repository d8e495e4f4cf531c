"""Reads the fields of a row with their types checked; collects what is wrong with them, and which were not read."""

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from steerzo_edge.data.rows import shown
from steerzo_edge.errors import Fault

_PLACE_IN_A_LIST = re.compile(r"\[\d+\]")
_MOST_NAME_CHARACTERS = 60


class Fields:
    """An object of a row: the row itself, or an object inside it.

    A field that cannot be used adds a fault, and the method returns some value of the right type, so that reading
    continues and finds the other faults too. Every method that gives a value also notes that the field was read.

    Args:
        values: The object.
        line: The line that the row began in, from 1.
        faults: Grows by one fault for each field that cannot be used.
        path: The object's place in the row, "" for the row itself.
        row: The row that the object is inside of; None for the row itself.
    """

    def __init__(
        self,
        values: Mapping[str, Any],
        line: int,
        faults: list[Fault],
        path: str = "",
        row: "Fields | None" = None,
    ) -> None:
        self._values = values
        self._line = line
        self._faults = faults
        self._path = path
        self._read: set[str] = set()
        self._objects: list[Fields] = [] if row is None else row._objects
        self._objects.append(self)
        self._notes: dict[str, None] = {} if row is None else row._notes

    @property
    def unread(self) -> set[str]:
        """Paths of the fields of the row that hold something and were not read; list members without a number."""
        return {
            _PLACE_IN_A_LIST.sub("[]", one._at(name[:_MOST_NAME_CHARACTERS]))
            for one in self._objects
            for name, value in one._values.items()
            if name not in one._read and value not in (None, "", [], {})
        }

    @property
    def notes(self) -> tuple[str, ...]:
        """What was changed in the row while it was read, each once."""
        return tuple(self._notes)

    def note(self, changed: str) -> None:
        """Notes a change that the user should know of, as a phrase that " in 3 rows" can follow."""
        self._notes[changed] = None

    def has(self, name: str) -> bool:
        """Whether the field is present."""
        return name in self._values

    def value(self, name: str) -> Any:
        """The value of any type, unchecked; None if the field is missing."""
        self._read.add(name)
        return self._values.get(name)

    def nests(self, name: str) -> bool:
        """Whether the field is an object."""
        return isinstance(self._values.get(name), Mapping)

    def text(self, name: str, *, may_be_empty: bool = False) -> str:
        """A string; blanks alone count as empty."""
        value = self.value(name)
        if isinstance(value, str) and (may_be_empty or value.strip()):
            return value
        self.refuse(name, "it must be a string" if may_be_empty else "it must be a non-empty string")
        return ""

    def optional_text(self, name: str) -> str:
        """A string that may be missing, null or empty."""
        return self.text(name, may_be_empty=True) if self.value(name) is not None else ""

    def texts(self, name: str, *, least: int = 1) -> tuple[str, ...]:
        """A list of non-empty strings.

        Args:
            name: Of the field.
            least: Fewest strings it must hold.
        """
        value = self.value(name)
        if isinstance(value, list) and len(value) >= least and all(isinstance(v, str) and v.strip() for v in value):
            return tuple(value)
        self.refuse(name, f"it must be a list of at least {least} non-empty strings")
        return ()

    def whole(self, name: str) -> int:
        """A whole number, 0 or above."""
        value = _whole(self.value(name))
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
        self.refuse(name, "it must be a whole number, 0 or above")
        return 0

    def truth(self, name: str) -> bool | None:
        """True, false, 1 or 0; None if the field is missing or null."""
        value = self.value(name)
        if value is None or (isinstance(value, int | float) and value in (0, 1)):
            return None if value is None else bool(value)
        self.refuse(name, "it must be 0 or 1, or true or false")
        return None

    def label(self, name: str = "label") -> str:
        """The name of a class: a string, a whole number (data frames write 1 as 1.0), or true and false."""
        value = _whole(self.value(name))
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, int) or (isinstance(value, str) and value.strip()):
            written = str(value)
            if written != written.strip():
                self.note(f"blanks around the {name} are left out")
            return written.strip()
        self.refuse(name, "it must be the name of a class: a text or a whole number")
        return ""

    def one_of(self, name: str, spellings: Mapping[str, str]) -> str:
        """One of the known classes.

        Args:
            name: Of the field.
            spellings: Each way a class may be written (true and false in lower case), and the class it stands for.
        """
        value = _whole(self.value(name))
        written = str(value).lower() if isinstance(value, bool) else str(value)
        if isinstance(value, str | int) and written in spellings:
            return spellings[written]
        self.refuse(name, f"it must be one of {', '.join(spellings)}")
        return next(iter(spellings.values()))

    def indices(self, name: str, below: int) -> tuple[int, ...]:
        """An index or a list of indices, from 0, each below a bound."""
        value = self.value(name)
        found = [_whole(index) for index in (value if isinstance(value, list) else [value])]
        whole = [index for index in found if isinstance(index, int) and not isinstance(index, bool)]
        if whole and len(whole) == len(found) and all(0 <= index < below for index in whole):
            return tuple(dict.fromkeys(whole))
        self.refuse(
            name, f"it must be the index of the right choice, from 0 to {max(below, 1) - 1}, or a list of them"
        )
        return ()

    def inside(self, name: str) -> "Fields":
        """An object inside this one."""
        value = self.value(name)
        if not isinstance(value, Mapping):
            self.refuse(name, "it must be an object")
            return Fields({}, self._line, [], self._at(name))  # with a list of its own: one fault is enough
        return Fields(value, self._line, self._faults, self._at(name), self)

    def each(self, name: str, *, shape: str = "") -> Iterator["Fields"]:
        """The objects of a list, which must hold at least one.

        Args:
            name: Of the field.
            shape: What an object must look like, for the faults.
        """
        value = self.value(name)
        if not isinstance(value, list) or not value:
            self.refuse(name, f"it must be a list of {shape or 'at least 1 object'}")
            return
        for index, member in enumerate(value):
            place = f"{self._at(name)}[{index}]"
            if isinstance(member, Mapping):
                yield Fields(member, self._line, self._faults, place, self)
            else:
                fix = f"it must be {shape or 'an object'}"
                self._faults.append(Fault(f"line {self._line}", place, shown(member), fix))

    def refuse(self, name: str, fix: str, found: str | None = None) -> None:
        """Adds a fault for a field that cannot be used.

        Args:
            name: Of the field.
            fix: What it must be.
            found: What to quote; None quotes the value.
        """
        if found is None and name not in self._values:
            others = [other for other in self._values if other not in self._read]
            near = get_close_matches(name, others, n=1, cutoff=0.7)
            found, fix = "nothing", f"{fix}; is {near[0]!r} meant to be {name!r}?" if near else fix
        if found is None:
            found = shown(self._values[name])
        self._faults.append(Fault(f"line {self._line}", self._at(name), found, fix))

    def _at(self, name: str) -> str:
        return f"{self._path}.{name}" if self._path else name


def _whole(value: Any) -> Any:
    """A float that is a whole number as that number: data frames write a column with gaps as floats."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
