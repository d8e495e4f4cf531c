"""Translates a chat template to the template language of Go, as Ollama uses it, and checks the translation.

The base's own template is rendered for short conversations of marker words. What stands between the markers is what
it writes before and after the text of each role:

    <|user|>\\nUSER<|end|>\\n<|assistant|>\\n        ->  {{ range .Messages }}{{ if eq .Role "user" }}<|user|> ...

A translation is kept only if both templates write the same text for several conversations. `rendered` knows the few
actions of Go's language that a translation has.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

Messages = Sequence[Mapping[str, str]]
Render = Callable[[Messages, bool], str]

_SYSTEM, _USER, _ANSWER, _NEXT = "SYSTEMTEXTQ", "USERTEXTQ", "ANSWERTEXTQ", "NEXTTEXTQ"


def _turns(*texts: str) -> list[dict[str, str]]:
    """Texts of a user and an assistant in turn."""
    return [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(texts)]


def _system(text: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": text}]


SAMPLES: Final[tuple[Messages, ...]] = (
    _turns("What is a fly?"),
    _system("Answer in one word.") + _turns("What is a fly?"),
    _turns("Hello", "Hi! How are you?", "Well.\nAnd you?"),
    _system("Sé breve.\n\nUse {{ braces }} and <tags>.") + _turns("1 + 1?", "2", "And 2 + 2?", "4", "Größe?"),
)


@dataclass(frozen=True, slots=True)
class Translation:
    """A chat template for Ollama.

    Args:
        text: In Go's template language.
        stop: What the template writes after an answer, without white space; "" if it is nothing.
    """

    text: str
    stop: str


def translated(render: Render) -> Translation | None:
    """The translation of a chat template; None if no such translation writes the same texts.

    Args:
        render: Renders conversations, with the beginning of an answer if its second argument is true. It raises
            whatever the template raises.
    """
    try:
        translation = _from_markers(render)
        if translation is None:
            return None
        same = all(rendered(translation.text, sample) == render(sample, True) for sample in SAMPLES)
    except Exception:  # a template may refuse a conversation, by any error
        return None
    return translation if same else None


def _from_markers(render: Render) -> Translation | None:
    user = _turns(_USER)
    begun, after_user = _split(render(user, False), _USER)
    _, generation = _split(render(user, True), _USER)
    between_system, _ = _split(_split(render(_system(_SYSTEM) + user, False), _SYSTEM)[1], _USER)
    before_system, _ = _split(render(_system(_SYSTEM) + user, False), _SYSTEM)
    talk = render(_turns(_USER, _ANSWER, _NEXT), False)
    before_answer, rest = _split(_split(talk, _USER)[1], _ANSWER)
    between_answer, _ = _split(rest, _NEXT)
    _, after_answer = _split(render(_turns(_USER, _ANSWER), False), _ANSWER)

    before_user = between_answer.removeprefix(after_answer)
    parts = {
        "opening": begun.removesuffix(before_user),
        "system": (before_system, between_system.removesuffix(before_user)),
        "user": (before_user, after_user),
        "assistant": (before_answer.removeprefix(after_user), after_answer),
        "closing": generation.removeprefix(after_user),
    }
    text = _composed(**parts)  # type: ignore[arg-type]
    written = [part for value in parts.values() for part in ([value] if isinstance(value, str) else value)]
    # These could not be written into a Modelfile. A brace before an action would be taken for the action's own.
    if any("{{" in part or "}}" in part or part.endswith("{") for part in written) or '"""' in text:
        return None
    return Translation(text, after_answer.strip())


def _composed(
    *, opening: str, system: tuple[str, str], user: tuple[str, str], assistant: tuple[str, str], closing: str
) -> str:
    """The whole template; `opening` stands before a conversation without a system message."""
    first = f"{{{{ if not .System }}}}{opening}{{{{ end }}}}" if opening else ""
    roles = {"system": system, "user": user, "assistant": assistant}
    branches = [
        f'if eq .Role "{role}" }}}}{before}{{{{ .Content }}}}{after}' for role, (before, after) in roles.items()
    ]
    choice = "{{ " + "{{ else ".join(branches) + "{{ end }}"
    return f"{first}{{{{ range .Messages }}}}{choice}{{{{ end }}}}{closing}"


def _split(text: str, marker: str) -> tuple[str, str]:
    """What stands before and after a marker.

    Raises:
        ValueError: If the text has it more than once, or not at all.
    """
    before, after = text.split(marker)
    return before, after


def rendered(template: str, messages: Messages) -> str:
    """What a translation writes for a conversation, as Go's text/template would.

    Args:
        template: With the actions `range .Messages`, `if eq .Role "..."`, `else if eq .Role "..."`,
            `if not .System`, `.Content` and `end`.
        messages: With `role` and `content`.

    Raises:
        ValueError: At any other action.
    """
    pieces = re.split(r"\{\{ (.*?) \}\}", template)  # text, action, text, action, ...
    found, place = _block(pieces, 0, messages, None)
    if place != len(pieces):
        raise ValueError(f"'end' without a beginning, at piece {place}")
    return found


def _block(
    pieces: Sequence[str], place: int, messages: Messages, message: Mapping[str, str] | None
) -> tuple[str, int]:
    """Renders up to the `else` or `end` that closes the block; returns the text, and the place of that action."""
    found = ""
    while place < len(pieces):
        found += pieces[place]
        action = pieces[place + 1] if place + 1 < len(pieces) else None
        place += 2
        if action is None:
            return found, len(pieces)
        if action == "end" or action.startswith("else "):
            return found, place - 1
        if action == ".Content" and message is not None:
            found += message["content"]
        elif action == "range .Messages":
            parts = [_block(pieces, place, messages, one) for one in messages]
            found += "".join(text for text, _ in parts)
            place = (parts[0] if parts else _block(pieces, place, (), {"role": "", "content": ""}))[1] + 1
        elif action.startswith("if "):
            text, place = _choice(pieces, place, action.removeprefix("if "), messages, message)
            found += text
        else:
            raise ValueError(f"unknown action {action!r}")
    return found, len(pieces)


def _choice(
    pieces: Sequence[str], place: int, condition: str, messages: Messages, message: Mapping[str, str] | None
) -> tuple[str, int]:
    """The branch whose condition holds first; returns its text, and the place after the closing `end`."""
    found: str | None = None
    while True:
        text, place = _block(pieces, place, messages, message)
        if found is None and _holds(condition, messages, message):
            found = text
        action = pieces[place]
        place += 1
        if action == "end":
            return found or "", place
        condition = action.removeprefix("else if ")


def _holds(condition: str, messages: Messages, message: Mapping[str, str] | None) -> bool:
    if condition == "not .System":
        return not any(one["role"] == "system" for one in messages)
    role = re.fullmatch(r'eq \.Role "(\w+)"', condition)
    if role is None or message is None:
        raise ValueError(f"unknown condition {condition!r}")
    return message["role"] == role[1]
