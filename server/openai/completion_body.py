"""The request body of text completions."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from server.openai.parameters import MOST_ANSWERS, SamplingBody, refused
from server.openai.prompts import MOST_PROMPTS, Prompts, prompts_of
from server.services.generation import GenerationRequest
from steerzo_edge.decoding.generate import Prompt


class CompletionBody(SamplingBody):
    """Texts to continue."""

    prompt: Prompts = Field(description="A text or its tokens, or several, which are answered together.")
    max_tokens: int | None = Field(
        16, ge=0, le=1_000_000, description="Most tokens generated for each prompt; 0 only with `echo`."
    )
    best_of: Annotated[None, refused("best_of is not supported; repeat the request with another seed", 1)] = None
    echo: bool | None = Field(
        False,
        description="Put the prompt before each answer; with `logprobs`, with the log-probabilities of its tokens.",
    )
    logprobs: int | None = Field(
        None,
        ge=0,
        le=20,
        description="Return each token's log-probability, and those of so many of the likeliest tokens.",
    )
    suffix: Annotated[None, refused("suffix is not supported; leave it out", "")] = None

    @property
    def prompts(self) -> list[Prompt]:
        """The prompts, one by one."""
        return prompts_of(self.prompt)

    @property
    def length(self) -> int:
        """Most tokens of an answer."""
        return 16 if self.max_tokens is None else self.max_tokens

    @property
    def with_scores(self) -> bool:
        """Whether the prompts' own log-probabilities are requested."""
        return bool(self.echo) and self.logprobs is not None

    @property
    def is_decoded(self) -> bool:
        """Whether answers are made token by token; one token after scored prompts comes with the scores."""
        return self.length > (1 if self.with_scores else 0)

    def generation_requests(
        self, prompts: Sequence[Prompt], adapter: str | None, fresh_seed: int
    ) -> list[GenerationRequest]:
        """A request for each answer; those to one prompt are consecutive.

        Args:
            prompts: The prompts.
            adapter: The id of the job or adapter that answers; None is the base.
            fresh_seed: Seed of each prompt's first answer, if the body gives none.
        """
        samplings = self.samplings(self.length, fresh_seed, self.logprobs)
        return [
            GenerationRequest(prompt, sampling, adapter, length_name="max_tokens")
            for prompt in prompts
            for sampling in samplings
        ]

    @model_validator(mode="after")
    def _something_to_answer(self) -> "CompletionBody":
        if self.length == 0 and not self.echo:
            raise PydanticCustomError(
                "nothing", "max_tokens 0 gives an empty answer; send at least 1, or echo: true"
            )
        return self

    @model_validator(mode="after")
    def _not_too_many(self) -> "CompletionBody":
        most = MOST_ANSWERS if self.stream and self.is_decoded else MOST_PROMPTS
        if len(self.prompts) * self.answers > most:
            raise PydanticCustomError(
                "too_many", "n times the number of prompts is more than {most}", {"most": most}
            )
        return self
