"""The request body of chat completions."""

from typing import Annotated, Any

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from server.openai.formats import ResponseFormat
from server.openai.messages import ChatMessageBody
from server.openai.parameters import Count, Metadata, SamplingBody, Tag, refused
from server.openai.tool_use import ToolRequest, ToolUse
from server.openai.tools import ONLY_FUNCTIONS, ToolBody, ToolChoice, written_tools
from server.services.generation import GenerationRequest
from steerzo_edge.data.examples import Chat
from steerzo_edge.decoding.grammar import Form


class ChatBody(SamplingBody):
    """A conversation to answer."""

    messages: list[ChatMessageBody] = Field(min_length=1, max_length=10_000, description="The turns so far.")
    max_tokens: Count | None = Field(
        None, description="Most tokens generated; the older name of max_completion_tokens."
    )
    max_completion_tokens: Count | None = Field(
        None, description="Most tokens generated; by default the rest of the context, 4096 at most."
    )
    store: bool | None = Field(None, description="Ignored: prompts are never stored.")
    metadata: Metadata | None = Field(None, description="Ignored.")
    service_tier: Tag | None = Field(None, description="Ignored.")
    safety_identifier: Tag | None = Field(None, description="Ignored.")
    prompt_cache_key: Tag | None = Field(None, description="Ignored.")
    prompt_cache_retention: Tag | None = Field(None, description="Ignored.")
    prompt_cache_options: dict[str, Any] | None = Field(None, description="Ignored.")
    tools: list[Annotated[ToolBody, ONLY_FUNCTIONS]] | None = Field(
        None, max_length=128, description="Functions that answers may call."
    )
    tool_choice: ToolChoice | None = Field(
        None, description="Whether an answer may or must call a function, or one of this name."
    )
    parallel_tool_calls: bool | None = Field(True, description="Whether an answer may have several calls.")
    functions: Annotated[None, refused("functions are not supported; send them as tools", [])] = None
    function_call: Annotated[
        None, refused("function_call is not supported; send tool_choice instead", "none", "auto")
    ] = None
    logprobs: bool | None = Field(False, description="Return each token's log-probability.")
    top_logprobs: int | None = Field(
        None, ge=0, le=20, description="Also return those of so many of the likeliest tokens; only with `logprobs`."
    )
    response_format: ResponseFormat | None = Field(
        None, description="What answers must look like: JSON, or JSON of a schema."
    )
    modalities: Annotated[None, refused("answers are text", ["text"])] = None
    audio: Annotated[None, refused("answers are text; leave it out")] = None
    prediction: Annotated[None, refused("predicted outputs are not supported; leave it out")] = None
    reasoning_effort: Annotated[None, refused("reasoning effort is not supported; leave it out", "none")] = None
    verbosity: Annotated[
        None, refused("verbosity is not supported; describe the length in a message", "medium")
    ] = None
    web_search_options: Annotated[None, refused("web search is not supported: the server is offline")] = None
    moderation: Annotated[None, refused("moderation is not supported; leave it out")] = None

    @property
    def form(self) -> Form | None:
        """See `SamplingBody`."""
        return None if self.response_format is None else self.response_format.form

    @field_validator("top_logprobs")
    @classmethod
    def _with_logprobs(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value and not info.data.get("logprobs"):
            raise PydanticCustomError("no_logprobs", "top_logprobs requires logprobs: true")
        return value

    @property
    def likeliest(self) -> int | None:
        """How many likeliest tokens get log-probabilities; None if no log-probabilities are requested."""
        return self.top_logprobs or 0 if self.logprobs else None

    @model_validator(mode="after")
    def _one_length(self) -> "ChatBody":
        lengths = {length for length in (self.max_tokens, self.max_completion_tokens) if length is not None}
        if len(lengths) > 1:
            raise PydanticCustomError(
                "two_lengths", "max_tokens and max_completion_tokens differ; send one of them"
            )
        return self

    @property
    def chat(self) -> Chat:
        """The conversation, and the tools that the chat template writes."""
        tools = [] if self.tool_choice == "none" else self.tools or []
        return Chat(tuple(message.turn() for message in self.messages), written_tools(tools))

    @property
    def tool_request(self) -> ToolRequest:
        """What the body says of tools."""
        is_parallel = self.parallel_tool_calls is not False
        return ToolRequest(
            self.tools or [],
            self.tool_choice,
            is_parallel,
            self.form,
            form_field="response_format",
            function_field="tools.{}.function",
        )

    def generation_requests(
        self, chat: Chat, adapter: str | None, fresh_seed: int, use: ToolUse | None
    ) -> list[GenerationRequest]:
        """A request for each answer.

        Args:
            chat: The body's conversation.
            adapter: The id of the job or adapter that answers; None is the base.
            fresh_seed: Seed of the first answer, if the body gives none.
            use: How answers may call tools; None if they may not.
        """
        length = self.max_completion_tokens or self.max_tokens
        samplings = self.samplings(length or 1, fresh_seed, self.likeliest)
        if use is not None:
            samplings = [use.applied(sampling) for sampling in samplings]
        name = "max_completion_tokens" if self.max_completion_tokens else "max_tokens"
        return [
            GenerationRequest(chat, sampling, adapter, fill_context=length is None, length_name=name)
            for sampling in samplings
        ]
