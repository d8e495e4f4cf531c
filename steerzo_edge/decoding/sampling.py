"""Chooses the next token of a row.

From the logits of the model, in this order:

    logit_bias            is added to the logits of the tokens that it names
    presence_penalty      is subtracted from the logit of every token that the answer has already
    frequency_penalty     is subtracted as often as the answer has the token
    form                  excludes tokens with which the answer would not have the form
    temperature           divides the logits; with 0 the largest is taken, and what follows has no effect
    top_k                 keeps the k largest
    top_p                 keeps the smallest set of the likeliest tokens whose probabilities reach p
    min_p                 keeps tokens at least p times as likely as the likeliest

The prompt's tokens do not count for the penalties. The definitions of penalties and biases are OpenAI's, those of
the last four steps are those of `transformers`.

Each request has its own generator. Gumbel noise is added to the processed scores and the largest is taken, which
draws from exactly the distribution that the scores define. So a request with a seed gives the same text again
whatever other requests are in the batch, and other code in the process cannot change its randomness.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from steerzo_edge.decoding.grammar import Form, Matcher


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen.

    Args:
        max_new_tokens: Most tokens generated.
        temperature: 0 takes the likeliest token.
        top_p: Keep the smallest set of tokens with this much probability.
        top_k: Keep this many likeliest tokens; 0 keeps all.
        stop: Texts that end the answer; they are not part of it.
        seed: Of the generator.
        logprobs: For how many of the likeliest tokens log-probabilities are returned, besides the chosen one's;
            None returns no log-probabilities.
        min_p: Keep tokens at least this many times as likely as the likeliest; 0 keeps all.
        presence_penalty: Subtracted from the logits of tokens that the answer has already.
        frequency_penalty: Subtracted for each time that the answer has the token.
        logit_bias: Pairs of a token and what is added to its logit.
        form: What the answer must look like; None for any text.
        shown_tokens: Control tokens whose names are part of the answer's text, which others are not.
    """

    max_new_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    stop: tuple[str, ...] = ()
    seed: int = 0
    logprobs: int | None = None
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    form: Form | None = None
    shown_tokens: tuple[int, ...] = ()


GREEDY: Final = Sampling()


class Chooser:
    """Chooses the tokens of one request.

    Args:
        sampling: The settings of the request.
        device: Where scores are.
        matcher: Follows the answer, if it must have a form.
    """

    def __init__(self, sampling: Sampling, device: torch.device, matcher: Matcher | None = None) -> None:
        self._sampling = sampling
        self._matcher = matcher
        self._added: Tensor | None = None
        self._seen: set[int] = set()
        self._processors = LogitsProcessorList()
        self._generator: torch.Generator | None = None
        self._noise: Tensor | None = None
        if sampling.temperature == 0:
            return
        self._processors.append(TemperatureLogitsWarper(sampling.temperature))
        if sampling.top_k > 0:
            self._processors.append(TopKLogitsWarper(sampling.top_k))
        if sampling.top_p < 1:
            self._processors.append(TopPLogitsWarper(sampling.top_p))
        if sampling.min_p > 0:
            self._processors.append(MinPLogitsWarper(sampling.min_p))
        self._generator = torch.Generator(device).manual_seed(sampling.seed)

    def weighed(self, scores: Tensor) -> Tensor:
        """Scores whose largest is the token to take. Calls before `taken` give the same, so a failed step can be
        repeated.

        Args:
            scores: (1, V) float32 logits.

        Raises:
            FormError: If the answer's form takes too much computation.
        """
        if self._changes_logits:
            scores = scores + self._bias(scores)
        if self._matcher is not None:
            scores = scores.masked_fill(self._matcher.excluded(scores.device), -torch.inf)
        if self._generator is None:
            return scores
        scores = self._processors(None, scores)
        if self._noise is None:
            self._noise = torch.rand(
                scores.shape, generator=self._generator, dtype=torch.float32, device=scores.device
            )
        return scores - torch.log(-torch.log(self._noise.clamp(1e-20, 1 - 1e-7)))

    def taken(self, token: int) -> None:
        """Notes that a token became part of the answer: the next call of `weighed` draws new noise.

        Args:
            token: Its id.

        Raises:
            FormError: If the answer's form does not allow the token.
        """
        self._noise = None
        if self._added is not None:
            first = 0.0 if token in self._seen else self._sampling.presence_penalty
            self._added[0, token] -= first + self._sampling.frequency_penalty
        self._seen.add(token)
        if self._matcher is not None:
            self._matcher.take(token)

    @property
    def is_plain(self) -> bool:
        """Whether it takes the likeliest token of the model's own logits."""
        return self._generator is None and self._matcher is None and not self._changes_logits

    @property
    def is_complete(self) -> bool:
        """Whether the answer has its form, and nothing may follow."""
        return self._matcher is not None and self._matcher.is_complete

    @property
    def _changes_logits(self) -> bool:
        settings = self._sampling
        return bool(settings.logit_bias or settings.presence_penalty or settings.frequency_penalty)

    def _bias(self, scores: Tensor) -> Tensor:
        """What is added to the logits, (1, V) float32.

        It is made for the first token, when the answer has no token yet that a penalty could apply to.
        """
        if self._added is None:
            self._added = torch.zeros_like(scores)
            for token, bias in self._sampling.logit_bias:
                self._added[0, token] += bias
        return self._added


def chosen(scores: Tensor, choosers: Sequence[Chooser]) -> list[int]:
    """Chooses the next token of each row; waits for the device once.

    Args:
        scores: (n, V) logits.
        choosers: One for each row.
    """
    if all(chooser.is_plain for chooser in choosers):
        likeliest: list[int] = scores.argmax(-1).tolist()
        return likeliest
    scores = scores.float()
    weighed = [chooser.weighed(scores[row : row + 1]) for row, chooser in enumerate(choosers)]
    found: list[int] = torch.cat([row.argmax(-1) for row in weighed]).tolist()
    return found
