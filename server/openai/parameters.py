"""What request bodies of chat and text completions share: parameters that are honoured, ignored, or refused.

Every parameter of the `openai` client has a field here. A parameter that would change the answer but is not
supported may be omitted, null, or have its neutral value; other values are refused with a message.
"""

from dataclasses import replace
from typing import Annotated, Any

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from server.services.request_bodies import LogitBias, Penalty
from steerzo_edge.config import Config
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
