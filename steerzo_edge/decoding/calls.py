"""Reads calls of tools from an answer, while it is being written.

    Hermes, Qwen    some text <tool_call>{"name": "f", "arguments": {...}}</tool_call>
    Mistral         some text [TOOL_CALLS][{"name": "f", "arguments": {...}}]
    Granite 3       <|tool_call|>[{"name": "f", "arguments": {...}}]
    Llama 3         {"name": "f", "parameters": {...}} as the whole answer, perhaps after <|python_tag|>

What is not a whole call of one of the tools stays text, without the markers; so does a list of calls if one of them
is not. Calls after it are read.
"""

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class CallForm:
    """How a model writes calls.

    Args:
        name: Whose form it is.
        opening: The marker before a call.
        closing: The marker after a call; "" if the form has none.
        arguments: The field with the arguments.
        is_list: Whether a JSON list of calls follows the opening, instead of one call.
        may_be_bare: Whether an answer that is a call from beginning to end needs no opening.
        gap: Blanks that the template writes between a call and its markers.
    """

    name: str
    opening: str
    closing: str = ""
    arguments: str = "arguments"
    is_list: bool = False
    may_be_bare: bool = False
    gap: str = ""

    @property
    def markers(self) -> tuple[str, ...]:
        """The markers, which are never a part of text."""
        return (self.opening, self.closing) if self.closing else (self.opening,)


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a tool.

    Args:
        name: The function's name.
        arguments: A JSON object.
    """

    name: str
    arguments: str


Part = str | Call


class CallReader:
    """Reads one answer; text before and after calls is returned as soon as it cannot be a part of a call.

    Args:
        form: How the model writes calls.
        names: The tools' names; a call of anything else is text.
        only_first: Whether calls after the first one are left out.
    """

    def __init__(self, form: CallForm, names: Collection[str], *, only_first: bool = False) -> None:
        self._form = form
        self._names = names
        self._only_first = only_first
        self._held = ""
        self._piece = ""
        self._is_inside = False
        self._is_bare = form.may_be_bare
        self._calls = 0

    def put(self, text: str) -> list[Part]:
        """Takes the next piece of the answer; returns texts and calls in their order."""
        self._piece = text
        self._held += text
        return list(self._parts(is_end=False))

    def end(self) -> list[Part]:
        """Ends the answer; returns what is left of it."""
        return list(self._parts(is_end=True))

    def _parts(self, *, is_end: bool) -> Iterator[Part]:
        while True:
            before = self._held, self._is_inside
            yield from self._inside(is_end) if self._is_inside else self._outside(is_end)
            if (self._held, self._is_inside) == before:
                return

    def _outside(self, is_end: bool) -> Iterator[Part]:
        if self._is_bare and self._held.strip():
            self._is_bare = self._is_inside = self._held.lstrip().startswith("{")
            if self._is_inside:
                return
        marks = [(place, mark) for mark in self._form.markers if (place := self._held.find(mark)) >= 0]
        if marks:
            place, mark = min(marks)
            text, self._held = self._held[:place].rstrip(), self._held[place + len(mark) :]
            self._is_inside, self._is_bare = mark == self._form.opening, False
        elif is_end:
            text, self._held = self._held.rstrip() if self._calls else self._held, ""
        else:
            certain = self._certain_length()
            text, self._held = self._held[:certain], self._held[certain:]
        if text:
            yield text

    def _certain_length(self) -> int:
        """Characters that are neither the beginning of a marker nor blanks, which a marker may follow."""
        lengths = [
            size
            for mark in self._form.markers
            for size in range(min(len(mark) - 1, len(self._held)), 0, -1)
            if self._held.endswith(mark[:size])
        ]
        return len(self._held[: len(self._held) - max(lengths, default=0)].rstrip())

    def _inside(self, is_end: bool) -> Iterator[Part]:
        begun = self._held.lstrip()
        if begun.startswith(("{", "[")):
            self._held = begun
            if not (is_end or self._may_be_whole()):
                return
        elif not (is_end or begun):
            return
        found = self._values()
        if found is None and not is_end:
            return
        values, end = found or ([], 0)
        rest = self._held[end:].lstrip()
        calls = [call for value in values if (call := _call(value, self._names)) is not None]
        if calls and len(calls) == len(values):
            if self._is_ended(rest, is_end):
                self._held, self._is_inside, self._is_bare = rest.removeprefix(self._form.closing), False, False
                self._calls += len(calls)
                yield from calls[: max(0, 1 - (self._calls - len(calls)))] if self._only_first else calls
                return
            if not is_end and any(mark.startswith(rest) for mark in self._form.markers):
                return
        # Not a call: its JSON is text as it stands, markers in its strings too; whatever follows is read as usual.
        text, self._held, self._is_inside, self._is_bare = self._held[:end], self._held[end:], False, False
        for mark in self._form.markers:
            text = text.replace(mark, "")
        if text.strip():
            yield text.strip()

    def _may_be_whole(self) -> bool:
        """Whether it is worth trying to read what is held; all of it is read again at each try."""
        if self._form.may_be_bare:
            return False
        last = () if self._form.closing else ("]" if self._form.is_list else "}",)
        return any(mark[-1] in self._piece and mark in self._held for mark in (*self._form.markers, *last))

    def _values(self) -> tuple[list[Any], int] | None:
        """The JSON values that what is held begins with, and where they end; lists are taken apart.

        No values, and 0, stand for what is not JSON; None for what is the beginning of JSON.
        """
        values: list[Any] = []
        text = self._held
        start = _after_blanks(text, 0)
        while text.startswith(("{", "["), start):
            try:
                value, end = _DECODER.raw_decode(text, start)
            except json.JSONDecodeError as error:
                is_cut = len(text[error.pos :].strip()) <= _LONGEST_WORD
                return None if is_cut or error.msg.startswith("Unterminated string") else ([], 0)
            except (ValueError, RecursionError):
                return [], 0
            values += value if isinstance(value, list) else [value]
            start = _after_blanks(text, end)
            if not (self._form.may_be_bare and text.startswith(";", start)):
                return values, end
            start = _after_blanks(text, start + 1)
        return [], 0

    def _is_ended(self, rest: str, is_end: bool) -> bool:
        """Whether what follows calls ends them: a marker, or the end of the answer."""
        if self._form.may_be_bare:
            return is_end and not rest
        return not self._form.closing or rest.startswith(self._form.markers) or (is_end and not rest)


def _after_blanks(text: str, place: int) -> int:
    return len(text) - len(text[place:].lstrip())


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


# A text that is cut inside a word or a number is not JSON from the word's beginning on.
_LONGEST_WORD: Final = len("-Infinity")
_DECODER: Final = json.JSONDecoder(parse_constant=_refuse)


def _call(value: Any, names: Collection[str]) -> Call | None:
    """The call that a JSON value stands for, if it does."""
    if not isinstance(value, dict):
        return None
    name, arguments = value.get("name"), value.get("arguments", value.get("parameters"))
    if isinstance(arguments, str):
        try:
            arguments = _DECODER.decode(arguments)
        except (ValueError, RecursionError):
            return None
    if not isinstance(name, str) or name not in names or not isinstance(arguments, dict):
        return None
    try:
        return Call(name, json.dumps(arguments, allow_nan=False))
    except (ValueError, RecursionError):  # 1e999 is read as infinity, for which JSON has no number
        return None
