"""The objects of the Responses API."""

from typing import Any, Literal

from pydantic import Field

from steerzo_edge.config import Config

Status = Literal["in_progress", "completed", "incomplete"]


class OutputText(Config):
    """The text of a message."""

    type: Literal["output_text"] = "output_text"
    text: str
    annotations: list[Any] = Field(default_factory=list)
    logprobs: list[Any] = Field(default_factory=list)


class OutputMessage(Config):
    """A message of the assistant."""

    id: str
    type: Literal["message"] = "message"
    status: Status
    role: Literal["assistant"] = "assistant"
    content: list[OutputText]


class OutputCall(Config):
    """A call of a function."""

    id: str
    type: Literal["function_call"] = "function_call"
    status: Status
    call_id: str = Field(description="The `call_id` of the item with its result.")
    name: str
    arguments: str = Field(description="A JSON object, as text.")


OutputItem = OutputMessage | OutputCall


class InputDetails(Config):
    """Details of the tokens that were read; there is no cache of prompts."""

    cached_tokens: int = 0
    cache_write_tokens: int = 0


class OutputDetails(Config):
    """Details of the tokens that were written."""

    reasoning_tokens: int = 0


class ResponseUsage(Config):
    """Token counts."""

    input_tokens: int
    input_tokens_details: InputDetails = Field(default_factory=InputDetails)
    output_tokens: int
    output_tokens_details: OutputDetails = Field(default_factory=OutputDetails)
    total_tokens: int


class Incomplete(Config):
    """Why an answer is incomplete."""

    reason: Literal["max_output_tokens"] = "max_output_tokens"


class ResponseObject(Config):
    """The answer to a text or a conversation."""

    id: str
    object: Literal["response"] = "response"
    created_at: int = Field(description="Seconds since the epoch.")
    completed_at: int | None = None
    status: Status
    model: str
    output: list[OutputItem]
    usage: ResponseUsage | None = Field(None, description="Token counts, once the answer is finished.")
    incomplete_details: Incomplete | None = None
    error: None = None
    instructions: str | None = None
    max_output_tokens: int | None = None
    metadata: dict[str, str] = Field(default_factory=dict)
    parallel_tool_calls: bool
    temperature: float
    top_p: float
    text: dict[str, Any] = Field(description="The requested form of the text.")
    tool_choice: str | dict[str, Any]
    tools: list[dict[str, Any]]
    background: Literal[False] = False
    previous_response_id: None = None
    store: Literal[False] = Field(False, description="Responses are never stored.")
    truncation: Literal["disabled"] = "disabled"
