"""The request body of the Responses API: parameters that are honoured, ignored, or refused."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field
from pydantic import Tag as Case

from server.openai.formats import JsonObjectFormat, NamedSchema, TextFormat
from server.openai.parameters import SEEDS, Count, Metadata, ModelName, Tag, Text, refused
from server.openai.response_items import Input, turns_of
from server.openai.tool_use import ToolRequest, ToolUse
from server.openai.tools import (
    FUNCTION,
    ONLY_FUNCTIONS,
    WORD,
    Choice,
    FunctionBody,
    FunctionChoice,
    FunctionName,
    NamedFunction,
    ToolBody,
    kind_of_choice,
    written_tools,
)
from server.services.generation import GenerationRequest
from steerzo_edge.config import Config
from steerzo_edge.data.examples import Chat, Message
from steerzo_edge.decoding.generate import Sampling
from steerzo_edge.decoding.grammar import Form


class FunctionTool(FunctionBody):
    """A function that answers may call."""

    type: Literal["function"] = Field(description="Other tools are not supported.")

    @property
    def as_chat(self) -> ToolBody:
        """The tool as chat completions have it."""
        function = FunctionBody(**self.model_dump(exclude={"type"}))
        return ToolBody(type="function", function=function)


class ChosenFunction(Config):
    """The function that an answer must call."""

    type: Literal["function"]
    name: FunctionName

    @property
    def as_chat(self) -> FunctionChoice:
        """The choice as chat completions have it."""
        return FunctionChoice(type="function", function=NamedFunction(name=self.name))


class SchemaFormat(NamedSchema):
    """JSON of a schema."""

    type: Literal["json_schema"]

    @property
    def form(self) -> Form | None:
        """The form that answers must have."""
        return self.schema_form


class TextOptions(Config):
    """What the text of answers must look like."""

    format: Annotated[TextFormat | JsonObjectFormat | SchemaFormat, Field(discriminator="type")] | None = Field(
        None, description="Any text, JSON, or JSON of a schema."
    )
    verbosity: Annotated[
        None, refused("verbosity is not supported; describe the length in a message", "medium")
    ] = None


class ResponseStreamOptions(Config):
    """Options of a stream."""

    include_obfuscation: bool | None = Field(None, description="Ignored: events are not padded.")


_STORED = "responses are not stored; send the whole conversation as input"


class ResponseBody(Config):
    """A text or a conversation to answer."""

    model: ModelName
    input: Input = Field(description="A user's message, or the messages, calls and results so far.")
    instructions: Text | None = Field(None, description="A message of the system, before the others.")
    max_output_tokens: Count | None = Field(
        None, description="Most tokens generated; by default the rest of the context, 4096 at most."
    )
    temperature: float | None = Field(1.0, ge=0, le=2, description="0 always takes the likeliest token.")
    top_p: float | None = Field(
        1.0, gt=0, le=1, description="Choose from the smallest set of tokens with this total probability."
    )
    seed: int | None = Field(
        None, ge=-SEEDS, lt=SEEDS, description="The same seed gives the same answer; random by default."
    )
    text: TextOptions | None = Field(None, description="What the text of answers must look like.")
    tools: list[Annotated[FunctionTool, ONLY_FUNCTIONS]] | None = Field(
        None, max_length=128, description="Functions that answers may call."
    )
    tool_choice: (
        Annotated[
            Annotated[Choice, Case(WORD)] | Annotated[ChosenFunction, Case(FUNCTION)], Discriminator(kind_of_choice)
        ]
        | None
    ) = Field(None, description="Whether an answer may or must call a function, or one of this name.")
    parallel_tool_calls: bool | None = Field(True, description="Whether an answer may have several calls.")
    metadata: Metadata | None = Field(None, description="Returned with the response.")
    stream: bool | None = Field(False, description="Answer with server-sent events.")
    stream_options: ResponseStreamOptions | None = Field(None, description="Only with `stream`.")
    store: Annotated[None, refused(f"{_STORED}, and store: false", False)] = None
    previous_response_id: Annotated[None, refused(_STORED)] = None
    conversation: Annotated[None, refused(_STORED)] = None
    background: Annotated[None, refused("responses in the background are not supported; use stream", False)] = None
    background_options: Annotated[None, refused("responses in the background are not supported", {})] = None
    prompt: Annotated[None, refused("stored prompts are not supported; send the text as input")] = None
    include: Annotated[
        None, refused("nothing can be included; leave it out", [], ["reasoning.encrypted_content"])
    ] = None
    reasoning: Annotated[None, refused("reasoning is not supported; leave it out", {}, {"effort": "none"})] = None
    truncation: Annotated[None, refused("input is never truncated; leave messages out instead", "disabled")] = None
    context_management: Annotated[None, refused("the context is not managed; leave messages out instead", [])] = (
        None
    )
    top_logprobs: Annotated[None, refused("it is supported by chat completions only", 0)] = None
    moderation: Annotated[None, refused("moderation is not supported; leave it out")] = None
    image: Annotated[None, refused("answers are text; leave it out", {})] = None
    access_programs: Annotated[None, refused("there are no access programs; leave it out", {})] = None
    max_tool_calls: Count | None = Field(None, description="Ignored: it counts calls of tools built into a server.")
    service_tier: Tag | None = Field(None, description="Ignored.")
    safety_identifier: Tag | None = Field(None, description="Ignored.")
    prompt_cache_key: Tag | None = Field(None, description="Ignored.")
    prompt_cache_retention: Tag | None = Field(None, description="Ignored.")
    prompt_cache_options: dict[str, Any] | None = Field(None, description="Ignored.")
    user: Tag | None = Field(None, description="Ignored.")

    @property
    def form(self) -> Form | None:
        """The form that answers must have."""
        return None if self.text is None or self.text.format is None else self.text.format.form

    @property
    def chat(self) -> Chat:
        """The conversation, and the tools that the chat template writes."""
        system = [Message("system", self.instructions)] if self.instructions else []
        tools = [] if self.tool_choice == "none" else self.tools or []
        return Chat((*system, *turns_of(self.input)), written_tools([tool.as_chat for tool in tools]))

    @property
    def tool_request(self) -> ToolRequest:
        """What the body says of tools."""
        choice = self.tool_choice
        return ToolRequest(
            [tool.as_chat for tool in self.tools or []],
            choice.as_chat if isinstance(choice, ChosenFunction) else choice,
            self.parallel_tool_calls is not False,
            self.form,
            form_field="text.format",
            function_field="tools.{}",
        )

    def generation_request(
        self, chat: Chat, adapter: str | None, fresh_seed: int, use: ToolUse | None
    ) -> GenerationRequest:
        """The request for the answer.

        Args:
            chat: The body's conversation.
            adapter: The id of the job or adapter that answers; None is the base.
            fresh_seed: Seed of the sampling, if the body gives none.
            use: How the answer may call tools; None if it may not.
        """
        length = self.max_output_tokens
        temperature = 1.0 if self.temperature is None else self.temperature
        top_p = 1.0 if self.top_p is None else self.top_p
        seed = fresh_seed if self.seed is None else self.seed
        sampling = Sampling(length or 1, temperature, top_p, seed=seed, form=self.form)
        sampling = sampling if use is None else use.applied(sampling)
        return GenerationRequest(
            chat, sampling, adapter, fill_context=length is None, length_name="max_output_tokens"
        )
