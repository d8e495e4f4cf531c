"""A row of each format to an example; what is wrong with it goes to its faults."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from steerzo_edge.data.examples import Chat, Completion, Example, Format, Labelled, Message, MultipleChoice, Plain
from steerzo_edge.data.fields import Fields
from steerzo_edge.data.rows import shown
from steerzo_edge.errors import Fault

# The prompts that alpaca rows were published with, and a line's end, so that the answer begins a line of its own.
WITH_INPUT: Final = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n"
)
WITHOUT_INPUT: Final = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:\n"
)
Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class _Turns:
    """How a conversation is written: its field, the two fields of a turn, and who speaks."""

    field: str
    role: str
    content: str
    roles: Mapping[str, Role]


_TURNS: dict[Format, _Turns] = {
    "chat": _Turns("messages", "role", "content", {"system": "system", "user": "user", "assistant": "assistant"}),
    "sharegpt": _Turns(
        "conversations",
        "from",
        "value",
        {"system": "system", "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"},
    ),
}


def example_of(format: Format, line: int, row: Mapping[str, Any], faults: list[Fault]) -> Example:
    """The example of a row.

    Args:
        format: How the row is written.
        line: Where it began in its file, from 1.
        row: Its fields.
        faults: Grows by what is wrong; the example is then of no use.
    """
    if format in _TURNS:
        return Chat(_messages(_TURNS[format], f"line {line}", row, faults))
    return _READERS[format](Fields(row, line, faults))


def joined(prompt: str, choice: str) -> str:
    """A choice with the blank that parts it from the prompt, if neither brings one."""
    return choice if prompt[-1:].isspace() or choice[:1].isspace() else f" {choice}"


def _completion(fields: Fields) -> Example:
    prompt, completion = fields.text("prompt"), fields.text("completion")
    return Completion(prompt, completion, fields.texts("references") if fields.has("references") else ())


def _alpaca(fields: Fields) -> Example:
    instruction, given, output = fields.text("instruction"), fields.optional_text("input"), fields.text("output")
    # Braces in a row are its own: no text that was put in is looked at again.
    before, behind = (WITH_INPUT if given.strip() else WITHOUT_INPUT).split("{instruction}")
    return Completion(before + instruction + behind.replace("{input}", given), output)


def _labelled(fields: Fields) -> Example:
    return Labelled(fields.text("text"), fields.label())


def _plain(fields: Fields) -> Example:
    return Plain(fields.text("text"))


def _multiple_choice(fields: Fields) -> Example:
    prompt = fields.text("prompt")
    choices = tuple(joined(prompt, choice) for choice in fields.texts("choices", least=2))
    if len(set(choices)) < len(choices):
        fields.refuse("choices", "all choices must differ")
    return MultipleChoice(prompt, choices, fields.indices("answer", len(choices)) if choices else ())


def _messages(turns: _Turns, where: str, row: Mapping[str, Any], faults: list[Fault]) -> tuple[Message, ...]:
    value = row.get(turns.field)
    shape = f'{{"{turns.role}", "{turns.content}"}}'
    if not isinstance(value, list) or not value:
        found = "nothing" if turns.field not in row else shown(value)
        faults.append(Fault(where, turns.field, found, f"it must be a list of {shape}"))
        return ()
    messages = []
    for index, message in enumerate(value):
        field = f"{turns.field}[{index}]"
        if not isinstance(message, Mapping):
            faults.append(Fault(where, field, shown(message), f"it must be {shape}"))
            continue
        role, content = message.get(turns.role), message.get(turns.content)
        if not isinstance(role, str) or role not in turns.roles:
            fix = f"it must be one of {', '.join(turns.roles)}"
            faults.append(Fault(where, f"{field}.{turns.role}", shown(role), fix))
        elif not isinstance(content, str) or not content.strip():
            fix = "it must be a text that is not empty"
            faults.append(Fault(where, f"{field}.{turns.content}", shown(content), fix))
        else:
            messages.append(Message(turns.roles[role], content))
    if len(messages) == len(value) and messages[-1].role != "assistant":
        found = f"last {turns.role} {shown(value[-1][turns.role])}"
        faults.append(Fault(where, turns.field, found, "end with the assistant's answer"))
    return tuple(messages)


_READERS: dict[Format, Callable[[Fields], Example]] = {
    "completion": _completion,
    "alpaca": _alpaca,
    "classification": _labelled,
    "multiple-choice": _multiple_choice,
    "plain": _plain,
}
