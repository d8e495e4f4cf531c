"""The input of the Responses API: messages, calls of functions and their results, as turns of a conversation."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Final, Literal

from pydantic import Discriminator, Field, Tag

from server.openai.messages import Arguments, call_details, tool_result, written_call
from server.openai.parameters import Text, refused
from server.openai.tools import FunctionName
from steerzo_edge.config import Config
from steerzo_edge.data.examples import Message, Role

_Id = Annotated[str, Field(min_length=1, max_length=200)]
_Ignored = Annotated[str | None, Field(max_length=200, description="Ignored.")]


class InputText(Config):
    """A piece of a message; one of an earlier answer has the type `output_text`."""

    type: Literal["input_text", "output_text"]
    text: Text
    annotations: Annotated[None, refused("annotations are not supported", [])] = None
    logprobs: list[Any] | None = Field(None, description="Ignored.")


Content = Text | list[InputText]


class InputMessage(Config):
    """A message, or one of an earlier answer."""

    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"] = Field(
        description="`developer` is treated as `system`."
    )
    content: Content
    id: _Ignored = None
    status: _Ignored = None
    phase: _Ignored = None


class InputCall(Config):
    """A call of an earlier answer."""

    type: Literal["function_call"]
    call_id: _Id
    name: FunctionName
    arguments: Arguments
    id: _Ignored = None
    status: _Ignored = None


class InputResult(Config):
    """What a called function returned."""

    type: Literal["function_call_output"]
    call_id: _Id
    output: Content
    id: _Ignored = None
    status: _Ignored = None


_TAGS: Final = {"message": "a message", "function_call": "a call", "function_call_output": "a result"}
_TEXT, _ITEMS = "a text", "a list of items"


def _item_kind(value: Any) -> str | None:
    """Which kind of item a value is; one without a type is a message."""
    return _TAGS.get(str(value.get("type") or "message")) if isinstance(value, dict) else "a message"


def _input_kind(value: Any) -> str:
    """Whether the input is a text or items, so that an error speaks of that alone."""
    return _ITEMS if isinstance(value, list) else _TEXT


InputItem = Annotated[
    Annotated[InputMessage, Tag("a message")]
    | Annotated[InputCall, Tag("a call")]
    | Annotated[InputResult, Tag("a result")],
    Discriminator(
        _item_kind,
        custom_error_type="item",
        custom_error_message="must be a message, a function_call or a function_call_output",
    ),
]
Input = Annotated[
    Annotated[Text, Tag(_TEXT)] | Annotated[list[InputItem], Field(min_length=1, max_length=10_000), Tag(_ITEMS)],
    Discriminator(_input_kind),
]


def turns_of(written: str | Sequence[InputMessage | InputCall | InputResult]) -> list[Message]:
    """The turns of a conversation. A call belongs to the assistant's turn before it, with its other calls.

    So does what the assistant says after a call: the result must follow the turn of its call.

    Args:
        written: A user's message, or items.
    """
    if isinstance(written, str):
        return [Message("user", written)]
    turns: list[tuple[Message, list[dict[str, Any]]]] = []
    for item in written:
        if isinstance(item, InputCall):
            if not turns or turns[-1][0].role != "assistant":
                turns.append((Message("assistant", ""), []))
            turns[-1][1].append(written_call(item.call_id, item.name, item.arguments))
        elif isinstance(item, InputResult):
            turns.append((tool_result(item.call_id, _text(item.output)), []))
        elif item.role == "assistant" and turns and turns[-1][1]:
            turn, calls = turns[-1]
            said = "\n\n".join(text for text in (turn.content, _text(item.content)) if text)
            turns[-1] = (replace(turn, content=said), calls)
        else:
            role: Role = "system" if item.role == "developer" else item.role
            turns.append((Message(role, _text(item.content)), []))
    return [replace(turn, details=call_details(calls)) if calls else turn for turn, calls in turns]


def _text(content: str | list[InputText]) -> str:
    return content if isinstance(content, str) else "".join(part.text for part in content)
