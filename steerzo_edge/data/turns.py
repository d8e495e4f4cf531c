"""Reads the turns of a conversation from a row: roles, texts, calls of tools, and which turns are learned."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from steerzo_edge.data.examples import Chat, Message, Role
from steerzo_edge.data.fields import Fields
from steerzo_edge.data.meanings import TURNS, refuse_bad_examples, refuse_given
from steerzo_edge.data.rows import shown

ROLES: Mapping[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}


@dataclass(frozen=True, slots=True)
class Turns:
    """How a conversation is written.

    Args:
        field: The row's field that lists the turns.
        role: The turn's field that names the speaker.
        content: The turn's field that holds the text, or a list of parts of text.
        roles: Each name a speaker may have, and the role it stands for.
    """

    field: str
    role: str
    content: str
    roles: Mapping[str, Role]


def as_openai(field: str) -> Turns:
    """Turns as OpenAI's API writes them, in a field of this name."""
    return Turns(field, "role", "content", ROLES)


def conversation(turns: Turns, row: Fields) -> Chat:
    """The conversation of a row, which must end with an answer; faults go to the row's fields."""
    return _finished(turns, row, _turns(turns, row))


def conversation_of_parts(prompt: Turns, completion: Turns, row: Fields) -> Chat:
    """The conversation of a row that is cut in two: no turn of the prompt is learned."""
    before = [replace(one, learned=one.role != "assistant") for one in _turns(prompt, row)]
    after = _turns(completion, row)
    return _finished(completion, row, (*before, *after) if after else ())


def _finished(turns: Turns, row: Fields, messages: tuple[Message, ...]) -> Chat:
    tools = _tools(row)
    refuse_bad_examples(row)
    if messages:
        messages = _with_system(row, messages)
        _check_end(turns, row, messages)
    return Chat(messages, tools)


def _turns(turns: Turns, row: Fields) -> tuple[Message, ...]:
    """The turns of one of a row's fields; empty if any of them has a fault."""
    shape = f'{{"{turns.role}", "{turns.content}"}}'
    read = [_message(turns, turn) for turn in row.each(turns.field, shape=shape)]
    messages = tuple(message for message in read if message is not None)
    written = row.value(turns.field)
    return messages if isinstance(written, list) and len(messages) == len(written) else ()


def _check_end(turns: Turns, row: Fields, messages: Sequence[Message]) -> None:
    if messages[-1].role != "assistant":
        last = row.value(turns.field)[-1][turns.role]
        row.refuse(turns.field, "end with the assistant's answer", f"last {turns.role} {shown(last)}")
    elif not any(one.role == "assistant" and one.learned for one in messages):
        row.refuse(
            turns.field, "mark at least one of them as learned", "answers that are all marked as not learned"
        )


def _with_system(row: Fields, messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The turns after the system prompt that some formats write beside them."""
    system = row.optional_text("system")
    if not system.strip():
        return messages
    if messages[0].role == "system":
        row.refuse("system", "the first turn is the system's too: leave one of them out")
    return (Message("system", system), *messages)


def _message(turns: Turns, turn: Fields) -> Message | None:
    name = turn.value(turns.role)
    if not isinstance(name, str) or name not in turns.roles:
        turn.refuse(turns.role, f"it must be one of {', '.join(turns.roles)}")
        return None
    role = turns.roles[name]
    refuse_given(turn, TURNS)
    calls = _calls(turn, role)
    learned = _learned(turn, role)
    content = _content(turns, turn, may_be_empty=bool(calls) or role == "tool")
    if content is None:
        return None
    details: dict[str, Any] = {"tool_calls": calls} if calls else {}
    if role == "tool":
        details |= {key: turn.text(key) for key in ("tool_call_id", "name") if turn.value(key)}
    return Message(role, content, learned, json.dumps(details, ensure_ascii=False) if details else "")


def _content(turns: Turns, turn: Fields, *, may_be_empty: bool) -> str | None:
    """The text, whole or in parts; None if it has a fault."""
    value = turn.value(turns.content)
    if value in (None, []) and may_be_empty:
        return ""
    if not isinstance(value, list):
        text = turn.text(turns.content, may_be_empty=may_be_empty)
        return text if text or (may_be_empty and isinstance(value, str)) else None
    texts: list[str] = []
    for part in turn.each(turns.content, shape='{"type": "text", "text"}'):
        if part.value("type") != "text":
            part.refuse("type", 'only parts of the type "text" can be learned from')
            continue
        text = part.text("text", may_be_empty=True)
        if isinstance(part.value("text"), str):
            texts.append(text)
    text = "".join(texts)
    if text.strip() or may_be_empty:
        return text
    if value and len(texts) == len(value):
        turn.refuse(turns.content, "its parts must hold a text")
    return None


def _learned(turn: Fields, role: Role) -> bool:
    """Whether a turn is learned: `weight` is OpenAI's mark, `train` and `loss` are those of other trainers."""
    learned = True
    for name in ("weight", "train", "loss"):
        marked = turn.truth(name)
        if marked and role != "assistant":
            turn.refuse(name, "only the assistant's turns are learned: leave it out here")
        learned = learned and (marked is not False or role != "assistant")
    return learned


def _calls(turn: Fields, role: Role) -> list[dict[str, Any]]:
    """The tool calls of a turn as chat templates take them, with their arguments as objects."""
    if turn.value("tool_calls") in (None, []):
        return []
    if role != "assistant":
        turn.refuse("tool_calls", "only the assistant calls tools")
    found = []
    for call in turn.each("tool_calls", shape='{"function": {"name", "arguments"}}'):
        kind = call.value("type")
        if kind not in (None, "function"):
            call.refuse("type", 'it must be "function"')
        function = call.inside("function") if call.value("function") is not None else call
        made = {"name": function.text("name"), "arguments": _arguments(function)}
        id = call.optional_text("id")
        found.append(({"id": id} if id else {}) | {"type": "function", "function": made})
    return found


def _arguments(function: Fields) -> dict[str, Any]:
    value = _parsed(function.value("arguments"))
    if isinstance(value, Mapping):
        return dict(value)
    if value is not None:
        function.refuse("arguments", "it must be a JSON object, or a text that holds one")
    return {}


def _tools(row: Fields) -> str:
    """The tools of a row as JSON; "" for none."""
    value = _parsed(row.value("tools"))
    if value in (None, "", []):
        return ""
    if isinstance(value, list) and all(isinstance(tool, Mapping) for tool in value):
        return json.dumps(value, ensure_ascii=False)
    row.refuse("tools", "it must be a list of objects, or a text that holds one as JSON")
    return ""


def _parsed(value: Any) -> Any:
    """The JSON that a text holds; other values, and other texts, as they are."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value
