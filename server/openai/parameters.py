"""The bodies of chat and text completions: what is honoured, what changes nothing, and what is refused in words.

Every parameter the `openai` client knows has a field here. One that would change the answer and is not honoured
may only be left out, or have the value that means as much.
"""

from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from server.services.generation import GenerationRequest
from steerzo_edge.config import Config
from steerzo_edge.data.examples import Message
from steerzo_edge.decoding.generate import Sampling

SEEDS = 2**63
# Of one request; all are in the device's queue at once.
MOST_ANSWERS = 32
# Bounds also make pydantic look at the characters: half of a surrogate pair is none.
ModelName = Annotated[str, Field(min_length=1, max_length=1000, description="An id that GET /v1/models lists.")]
Text = Annotated[str, Field(max_length=1 << 24)]
Stop = Annotated[str, Field(min_length=1, max_length=200)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Tag = Annotated[str, Field(max_length=1000)]
Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]], Field(max_length=16)
]


def refused(fix: str, *harmless: Any) -> BeforeValidator:
    """Lets a parameter be null, or a value that changes nothing.

    Args:
        fix: Why it is refused, and what to do instead.
        harmless: The values that change nothing.
    """

    def check(value: Any) -> None:
        if value is not None and value not in harmless:
            raise PydanticCustomError("refused", "{fix}", {"fix": fix})

    return BeforeValidator(check)


def _no_token_ids(value: Any) -> Any:
    if isinstance(value, list) and any(isinstance(part, int | list) for part in value):
        raise PydanticCustomError("token_ids", "token ids are not taken; send the text, or a list of texts")
    return value


_TOOLS = refused("this server calls no tools or functions; leave it out", [], "none")
_PENALTY = refused("tokens are not penalised; leave it out or send 0", 0)


class StreamOptions(Config):
    """What a stream carries besides the text."""

    include_usage: bool = Field(False, description="A last chunk without choices that counts the tokens.")
    include_obfuscation: bool | None = Field(None, description="Changes nothing: nothing is padded.")


class SamplingBody(Config):
    """What chat and text completions have in common."""

    model: ModelName
    temperature: float | None = Field(1.0, ge=0, le=2, description="0 takes the likeliest token.")
    top_p: float | None = Field(1.0, gt=0, le=1, description="Keep the smallest set with this much probability.")
    stop: Stop | Annotated[list[Stop], Field(max_length=8)] | None = Field(None, description="What ends it.")
    seed: int | None = Field(
        None, ge=-SEEDS, lt=SEEDS, description="The same seed gives the same answer; a fresh one by default."
    )
    stream: bool | None = Field(False, description="Server-sent events, then `data: [DONE]`.")
    stream_options: StreamOptions | None = Field(None, description="Only with `stream`.")
    user: Tag | None = Field(None, description="Changes nothing.")
    n: int | None = Field(
        1, ge=1, le=MOST_ANSWERS, description="Answers, made together; each has a seed one above that before."
    )
    frequency_penalty: Annotated[None, _PENALTY] = None
    presence_penalty: Annotated[None, _PENALTY] = None
    logit_bias: Annotated[None, refused("logits are not biased; leave it out", {})] = None

    @property
    def with_usage(self) -> bool:
        """Whether a stream ends with a count of the tokens."""
        return self.stream_options is not None and self.stream_options.include_usage

    @property
    def answers(self) -> int:
        """How many answers are wanted."""
        return self.n or 1

    def samplings(self, max_new_tokens: int, fresh_seed: int, logprobs: int | None) -> list[Sampling]:
        """How tokens are chosen, for each answer.

        Args:
            max_new_tokens: Most tokens generated.
            fresh_seed: Of the first answer, where the request names none.
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
            stop=stop,
            seed=fresh_seed if self.seed is None else self.seed,
        )


class TextPart(Config):
    """A piece of a message."""

    type: Literal["text"]
    text: Text


class ChatMessageBody(Config):
    """One turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant"] = Field(description="`developer` is `system`.")
    content: Text | list[TextPart] = Field(description="Text, whole or in pieces.")
    name: Tag | None = Field(None, description="Changes nothing.")
    refusal: Annotated[None, refused("an assistant's refusal is not taken; write it as content", "")] = None
    annotations: Annotated[None, refused("annotations are not taken", [])] = None
    audio: Annotated[None, refused("audio is not taken")] = None
    tool_calls: Annotated[None, _TOOLS] = None
    function_call: Annotated[None, _TOOLS] = None

    def turn(self) -> Message:
        """The message as the chat template gets it."""
        parts = self.content if isinstance(self.content, list) else [TextPart(type="text", text=self.content)]
        role: Literal["system", "user", "assistant"] = "system" if self.role == "developer" else self.role
        return Message(role, "".join(part.text for part in parts))


class ChatBody(SamplingBody):
    """A conversation to answer."""

    messages: list[ChatMessageBody] = Field(min_length=1, max_length=10_000, description="The turns so far.")
    max_tokens: Count | None = Field(None, description="Most tokens generated; the older name.")
    max_completion_tokens: Count | None = Field(
        None, description="Most tokens generated; by default what is left of the context, 4096 at most."
    )
    store: bool | None = Field(None, description="Changes nothing: no prompt is kept.")
    metadata: Metadata | None = Field(None, description="Changes nothing.")
    service_tier: Tag | None = Field(None, description="Changes nothing.")
    safety_identifier: Tag | None = Field(None, description="Changes nothing.")
    prompt_cache_key: Tag | None = Field(None, description="Changes nothing.")
    prompt_cache_retention: Tag | None = Field(None, description="Changes nothing.")
    prompt_cache_options: dict[str, Any] | None = Field(None, description="Changes nothing.")
    parallel_tool_calls: bool | None = Field(None, description="Changes nothing: there are no tools.")
    tools: Annotated[None, _TOOLS] = None
    tool_choice: Annotated[None, refused("this server calls no tools; leave it out", "none", "auto")] = None
    functions: Annotated[None, _TOOLS] = None
    function_call: Annotated[None, refused("this server calls no functions; leave it out", "none", "auto")] = None
    logprobs: bool | None = Field(False, description="Tell how likely each token was.")
    top_logprobs: int | None = Field(
        None, ge=0, le=20, description="And how likely so many of the likeliest were; only with `logprobs`."
    )
    response_format: Annotated[
        None, refused("answers are plain text; say in a message which form they should have", {"type": "text"})
    ] = None
    modalities: Annotated[None, refused("answers are text", ["text"])] = None
    audio: Annotated[None, refused("answers are text; leave it out")] = None
    prediction: Annotated[None, refused("predicted outputs are not used; leave it out")] = None
    reasoning_effort: Annotated[None, refused("there is no effort to choose; leave it out", "none")] = None
    verbosity: Annotated[None, refused("say in a message how long the answer should be", "medium")] = None
    web_search_options: Annotated[None, refused("nothing is searched: this server is offline")] = None
    moderation: Annotated[None, refused("nothing is moderated; leave it out")] = None

    @field_validator("top_logprobs")
    @classmethod
    def _with_logprobs(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value and not info.data.get("logprobs"):
            raise PydanticCustomError(
                "no_logprobs", "top_logprobs is only told with logprobs; send true for it too"
            )
        return value

    @property
    def likeliest(self) -> int | None:
        """Of how many tokens log-probabilities are wanted beside the chosen one's; None of none at all."""
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
        """What is asked, a question for each answer.

        Args:
            adapter: The id of the job whose adapter answers, or None.
            fresh_seed: Of the first answer, where the request names none.
        """
        length = self.max_completion_tokens or self.max_tokens
        turns = [message.turn() for message in self.messages]
        samplings = self.samplings(length or 1, fresh_seed, self.likeliest)
        return [GenerationRequest(turns, sampling, adapter, fill_context=length is None) for sampling in samplings]


class CompletionBody(SamplingBody):
    """Texts to go on with."""

    prompt: Annotated[
        Annotated[str, Field(min_length=1, max_length=1 << 24)]
        | Annotated[
            list[Annotated[str, Field(min_length=1, max_length=1 << 24)]], Field(min_length=1, max_length=32)
        ],
        BeforeValidator(_no_token_ids),
    ] = Field(description="A text, or several: all are answered together.")
    max_tokens: Count | None = Field(16, description="Most tokens generated, for each text.")
    best_of: Annotated[None, refused("one answer a text; ask again with another seed", 1)] = None
    echo: Annotated[None, refused("the prompt is not repeated; put it in front yourself", False)] = None
    logprobs: int | None = Field(
        None, ge=0, le=20, description="Tell how likely each token was, and so many of the likeliest."
    )
    suffix: Annotated[None, refused("nothing is filled in between; leave it out", "")] = None

    def generation_requests(self, adapter: str | None, fresh_seed: int) -> list[GenerationRequest]:
        """What is asked: for each text as many wanted as answers are wanted, one after the other.

        Args:
            adapter: The id of the job whose adapter answers, or None.
            fresh_seed: Of each text's first answer, where the request names none.
        """
        texts = [self.prompt] if isinstance(self.prompt, str) else self.prompt
        samplings = self.samplings(self.max_tokens or 16, fresh_seed, self.logprobs)
        return [GenerationRequest(text, sampling, adapter) for text in texts for sampling in samplings]

    @model_validator(mode="after")
    def _not_too_many(self) -> "CompletionBody":
        texts = 1 if isinstance(self.prompt, str) else len(self.prompt)
        if texts * self.answers > MOST_ANSWERS:
            raise PydanticCustomError(
                "too_many", "n times the number of texts is more than {most}", {"most": MOST_ANSWERS}
            )
        return self
