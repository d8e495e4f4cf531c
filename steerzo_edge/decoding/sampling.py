"""Chooses the next token of a row.

Each request has its own generator. Gumbel noise is added to the processed scores and the largest is taken, which
draws from exactly the distribution that the scores define. So a request with a seed gives the same text again
whatever other requests are in the batch, and other code in the process cannot change its randomness.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper


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
    """

    max_new_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    stop: tuple[str, ...] = ()
    seed: int = 0
    logprobs: int | None = None


GREEDY: Final = Sampling()


class Chooser:
    """Chooses the tokens of one request.

    Args:
        sampling: The settings of the request.
        device: Where scores are.
    """

    def __init__(self, sampling: Sampling, device: torch.device) -> None:
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
        self._generator = torch.Generator(device).manual_seed(sampling.seed)

    def weighed(self, scores: Tensor) -> Tensor:
        """Scores whose largest is the token to take. Calls before `taken` give the same, so a failed step can be
        repeated.

        Args:
            scores: (1, V) float32 logits.
        """
        if self._generator is None:
            return scores
        scores = self._processors(None, scores)
        if self._noise is None:
            self._noise = torch.rand(
                scores.shape, generator=self._generator, dtype=torch.float32, device=scores.device
            )
        return scores - torch.log(-torch.log(self._noise.clamp(1e-20, 1 - 1e-7)))

    def taken(self) -> None:
        """Notes that the token became part of the answer: the next call of `weighed` draws new noise."""
        self._noise = None

    @property
    def is_greedy(self) -> bool:
        """Whether it takes the likeliest token."""
        return self._generator is None


def chosen(scores: Tensor, choosers: Sequence[Chooser]) -> list[int]:
    """Chooses the next token of each row; waits for the device once.

    Args:
        scores: (n, V) logits.
        choosers: One for each row.
    """
    if all(chooser.is_greedy for chooser in choosers):
        likeliest: list[int] = scores.argmax(-1).tolist()
        return likeliest
    scores = scores.float()
    weighed = [chooser.weighed(scores[row : row + 1]) for row, chooser in enumerate(choosers)]
    found: list[int] = torch.cat([row.argmax(-1) for row in weighed]).tolist()
    return found
