"""The messages of a chat: turns of a conversation, calls of tools and their results among them."""

import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from server.openai.parameters import Tag, Text, refused
from server.openai.tools import FunctionName
from steerzo_edge.config import Config
from steerzo_edge.data.examples import Message, Role


def _object(text: str) -> str:
    try:
        is_object = isinstance(json.loads(text or "{}"), dict)
    except (ValueError, RecursionError):
        is_object = False
    if not is_object:
        raise PydanticCustomError("arguments", "must be the text of a JSON object")
    return text


Arguments = Annotated[Text, AfterValidator(_object)]


class TextPart(Config):
    """A piece of a message."""

    type: Literal["text"]
    text: Text


class CalledFunction(Config):
    """A function, and what it was called with."""

    name: FunctionName
    arguments: Arguments = Field(description="A JSON object, as text.")
    parsed_arguments: Any = Field(None, description="Ignored: the openai client adds it.")


class ToolCallBody(Config):
    """A call of an earlier answer."""

    id: Annotated[str, Field(min_length=1, max_length=200)]
    type: Literal["function"]
    function: CalledFunction
    index: int | None = Field(None, description="Ignored: the openai client adds it.")

    @property
    def written(self) -> dict[str, Any]:
        """The call as chat templates take it."""
        return written_call(self.id, self.function.name, self.function.arguments)


class ChatMessageBody(Config):
    """One turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"] = Field(
        description="`developer` is treated as `system`."
    )
    name: Tag | None = Field(None, description="Ignored.")
    parsed: Any = Field(None, description="Ignored: the openai client adds it.")
    refusal: Annotated[None, refused("refusals are not supported; send the text as content", "")] = None
    annotations: Annotated[None, refused("annotations are not supported", [])] = None
    audio: Annotated[None, refused("audio is not supported")] = None
    tool_calls: list[ToolCallBody] | None = Field(None, max_length=128, description="Calls of an earlier answer.")
    content: Text | list[TextPart] | None = Field(
        None, description="The text, whole or in parts; only beside tool_calls it may be left out."
    )
    tool_call_id: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        None, description="The id of the call that a message of the role `tool` answers."
    )
    function_call: Annotated[None, refused("function_call is not supported; send tool_calls instead")] = None

    @field_validator("content")
    @classmethod
    def _something_is_said(
        cls, value: str | list[TextPart] | None, info: ValidationInfo
    ) -> str | list[TextPart] | None:
        if value is None and not info.data.get("tool_calls"):
            raise PydanticCustomError("content", "a message without tool_calls must have content")
        return value

    @model_validator(mode="after")
    def _fields_fit_the_role(self) -> "ChatMessageBody":
        if self.tool_calls and self.role != "assistant":
            raise PydanticCustomError("calls", "only messages of the assistant have tool_calls")
        if (self.tool_call_id is None) == (self.role == "tool"):
            raise PydanticCustomError("result", "messages of the role tool have a tool_call_id, others have none")
        return self

    def turn(self) -> Message:
        """The message for the chat template."""
        parts = self.content or ""
        text = parts if isinstance(parts, str) else "".join(part.text for part in parts)
        if self.role == "tool":
            return tool_result(self.tool_call_id or "", text)
        role: Role = "system" if self.role == "developer" else self.role
        return Message(role, text, details=call_details([call.written for call in self.tool_calls or []]))


def written_call(id: str, name: str, arguments: str) -> dict[str, Any]:
    """A call as chat templates take it.

    Args:
        id: Its id.
        name: The function.
        arguments: The text of a JSON object; "" counts as an empty one.
    """
    return {"id": id, "type": "function", "function": {"name": name, "arguments": json.loads(arguments or "{}")}}


def call_details(calls: list[dict[str, Any]]) -> str:
    """The `details` of an assistant's message with these calls."""
    return json.dumps({"tool_calls": calls}, ensure_ascii=False) if calls else ""


def tool_result(call_id: str, text: str) -> Message:
    """A message with the result of a call."""
    return Message("tool", text, details=json.dumps({"tool_call_id": call_id}, ensure_ascii=False))
