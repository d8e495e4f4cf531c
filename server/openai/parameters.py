"""The request bodies of chat and text completions: parameters that are honoured, ignored, or refused.

Every parameter of the `openai` client has a field here. A parameter that would change the answer but is not
supported may be omitted, null, or have its neutral value; other values are refused with a message.
"""

from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from server.openai.formats import ResponseFormat
from server.services.generation import GenerationRequest
from server.services.request_bodies import LogitBias, Penalty
from steerzo_edge.config import Config
from steerzo_edge.data.examples import Message
from steerzo_edge.decoding.generate import Sampling
from steerzo_edge.decoding.grammar import Form

SEEDS = 2**63
# Most answers of one request; all of them enter the device's queue at once.
MOST_ANSWERS = 32
# The length limit also makes pydantic reject half of a surrogate pair.
ModelName = Annotated[str, Field(min_length=1, max_length=1000, description="An id that GET /v1/models lists.")]
Text = Annotated[str, Field(max_length=1 << 24)]
Stop = Annotated[str, Field(min_length=1, max_length=200)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Tag = Annotated[str, Field(max_length=1000)]
Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]], Field(max_length=16)
]


def refused(fix: str, *harmless: Any) -> BeforeValidator:
    """Refuses a parameter unless it is null or has a neutral value.

    Args:
        fix: Why it is refused, and what to do instead.
        harmless: The neutral values.
    """

    def check(value: Any) -> None:
        if value is not None and value not in harmless:
            raise PydanticCustomError("refused", "{fix}", {"fix": fix})

    return BeforeValidator(check)


_TOOLS = refused("tools and functions are not supported; leave it out", [], "none")


class StreamOptions(Config):
    """Options of a stream."""

    include_usage: bool = Field(False, description="Add a last chunk without choices that has the token counts.")
    include_obfuscation: bool | None = Field(None, description="Ignored: chunks are not padded.")


class SamplingBody(Config):
    """The parameters that chat and text completions share."""

    model: ModelName
    temperature: float | None = Field(1.0, ge=0, le=2, description="0 always takes the likeliest token.")
    top_p: float | None = Field(
        1.0, gt=0, le=1, description="Choose from the smallest set of tokens with this total probability."
    )
    stop: Stop | Annotated[list[Stop], Field(max_length=8)] | None = Field(
        None, description="Texts that end the answer."
    )
    seed: int | None = Field(
        None, ge=-SEEDS, lt=SEEDS, description="The same seed gives the same answer; random by default."
    )
    stream: bool | None = Field(False, description="Answer with server-sent events, then `data: [DONE]`.")
    stream_options: StreamOptions | None = Field(None, description="Only with `stream`.")
    user: Tag | None = Field(None, description="Ignored.")
    n: int | None = Field(
        1,
        ge=1,
        le=MOST_ANSWERS,
        description="Number of answers, made together; each seed is one above the previous.",
    )
    top_k: int | None = Field(0, ge=0, description="Number of likeliest tokens to choose from; 0 keeps all.")
    min_p: float | None = Field(
        0.0, ge=0, le=1, description="Choose from tokens at least so many times as likely as the likeliest."
    )
    frequency_penalty: Penalty | None = Field(
        0.0, description="Lowers a token's logit for each time that the answer has it."
    )
    presence_penalty: Penalty | None = Field(0.0, description="Lowers the logits of tokens that the answer has.")
    logit_bias: LogitBias | None = Field(None, description="What is added to the logits of tokens, by their ids.")

    @property
    def with_usage(self) -> bool:
        """Whether a stream ends with the token counts."""
        return self.stream_options is not None and self.stream_options.include_usage

    @property
    def answers(self) -> int:
        """The number of answers to each prompt."""
        return self.n or 1

    def samplings(self, max_new_tokens: int, fresh_seed: int, logprobs: int | None) -> list[Sampling]:
        """How tokens are chosen, for each answer.

        Args:
            max_new_tokens: Most tokens generated.
            fresh_seed: Seed of the first answer, if the request gives none.
            logprobs: As in `Sampling`.
        """
        first = replace(self._sampling(max_new_tokens, fresh_seed), logprobs=logprobs)
        return [replace(first, seed=first.seed + number) for number in range(self.answers)]

    def _sampling(self, max_new_tokens: int, fresh_seed: int) -> Sampling:
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        return Sampling(
            max_new_tokens,
            1.0 if self.temperature is None else self.temperature,
            1.0 if self.top_p is None else self.top_p,
            self.top_k or 0,
            stop=stop,
            seed=fresh_seed if self.seed is None else self.seed,
            min_p=self.min_p or 0.0,
            presence_penalty=self.presence_penalty or 0.0,
            frequency_penalty=self.frequency_penalty or 0.0,
            logit_bias=tuple((self.logit_bias or {}).items()),
            form=self.form,
        )

    @property
    def form(self) -> Form | None:
        """The form that answers must have."""
        return None


class TextPart(Config):
    """A piece of a message."""

    type: Literal["text"]
    text: Text


class ChatMessageBody(Config):
    """One turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant"] = Field(
        description="`developer` is treated as `system`."
    )
    content: Text | list[TextPart] = Field(description="The text, whole or in parts.")
    name: Tag | None = Field(None, description="Ignored.")
    refusal: Annotated[None, refused("refusals are not supported; send the text as content", "")] = None
    annotations: Annotated[None, refused("annotations are not supported", [])] = None
    audio: Annotated[None, refused("audio is not supported")] = None
    tool_calls: Annotated[None, _TOOLS] = None
    function_call: Annotated[None, _TOOLS] = None

    def turn(self) -> Message:
        """The message for the chat template."""
        parts = self.content if isinstance(self.content, list) else [TextPart(type="text", text=self.content)]
        role: Literal["system", "user", "assistant"] = "system" if self.role == "developer" else self.role
        return Message(role, "".join(part.text for part in parts))


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
    parallel_tool_calls: bool | None = Field(None, description="Ignored: there are no tools.")
    tools: Annotated[None, _TOOLS] = None
    tool_choice: Annotated[None, refused("tools are not supported; leave it out", "none", "auto")] = None
    functions: Annotated[None, _TOOLS] = None
    function_call: Annotated[None, refused("functions are not supported; leave it out", "none", "auto")] = None
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

    def generation_requests(self, adapter: str | None, fresh_seed: int) -> list[GenerationRequest]:
        """A request for each answer.

        Args:
            adapter: The id of the job or adapter that answers; None is the base.
            fresh_seed: Seed of the first answer, if the body gives none.
        """
        length = self.max_completion_tokens or self.max_tokens
        turns = [message.turn() for message in self.messages]
        samplings = self.samplings(length or 1, fresh_seed, self.likeliest)
        name = "max_completion_tokens" if self.max_completion_tokens else "max_tokens"
        return [
            GenerationRequest(turns, sampling, adapter, fill_context=length is None, length_name=name)
            for sampling in samplings
        ]
