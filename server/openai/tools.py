"""Functions that a request offers to the model, and whether answers must call one."""

import json
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from server.openai.parameters import Text
from steerzo_edge.config import Config

FunctionName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
WORD: Final = "a word"
FUNCTION: Final = "a function"


class FunctionBody(Config):
    """A function."""

    name: FunctionName = Field(description="Letters, digits, `_` and `-`; at most 64.")
    description: Text | None = Field(None, description="What it does; the model reads it.")
    parameters: dict[str, Any] | None = Field(
        None, description="The JSON schema of its arguments, an object; without one it has no arguments."
    )
    strict: bool | None = Field(None, description="Whether the arguments of every call must have the schema.")


def _is_function(value: Any) -> Any:
    """Refuses other tools before their fields are looked at, which would be unknown."""
    if isinstance(value, dict) and value.get("type", "function") != "function":
        raise PydanticCustomError("tool", "only functions are supported: the type must be `function`")
    return value


ONLY_FUNCTIONS: Final = BeforeValidator(_is_function)


class ToolBody(Config):
    """A tool, which is always a function."""

    type: Literal["function"]
    function: FunctionBody


class NamedFunction(Config):
    """The name of a function."""

    name: FunctionName


class FunctionChoice(Config):
    """The function that an answer must call."""

    type: Literal["function"]
    function: NamedFunction


def kind_of_choice(value: Any) -> str:
    """Whether a choice is a word or a function, so that an error speaks of that alone."""
    return WORD if isinstance(value, str) else FUNCTION


Choice = Literal["none", "auto", "required"]
ToolChoice = Annotated[
    Annotated[Choice, Tag(WORD)] | Annotated[FunctionChoice, Tag(FUNCTION)], Discriminator(kind_of_choice)
]


def written_tools(tools: Sequence[ToolBody]) -> str:
    """The tools as a JSON list for the chat template, as rows of training data have them; "" for none."""
    written = [tool.model_dump(exclude={"function": {"strict"}}, exclude_none=True) for tool in tools]
    return json.dumps(written, ensure_ascii=False) if written else ""
