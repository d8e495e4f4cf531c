"""Text from the base with any adapter, through `transformers`' own `generate`, streamed as it comes.

Sampling uses a generator of its own: Gumbel noise is added to the processed scores, and the largest wins, which
draws from exactly the distribution they define. So a seeded request gives the same text again, and nothing
else in the process shares or disturbs its randomness.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from steerzo_edge.data.examples import Message
from steerzo_edge.data.tokenization import answer_tokens, chat_text, prompt_tokens
from steerzo_edge.errors import InputError, PromptTooLongError
from steerzo_edge.model.bank import Patches, uniform
from steerzo_edge.model.base import Base

FinishReason = Literal["stop", "length", "cancelled"]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen.

    Args:
        max_new_tokens: Most tokens generated.
        temperature: 0 takes the likeliest token.
        top_p: Keep the smallest set of tokens with this much probability.
        top_k: Keep this many likeliest tokens; 0 keeps all.
        stop: Texts that end the answer; they are not part of it.
        seed: Of the sampling.
    """

    max_new_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    stop: tuple[str, ...] = ()
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Generation:
    """A finished answer."""

    text: str
    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int


def generate(
    base: Base,
    prompt: str | Sequence[Message],
    adapter: Patches | None = None,
    sampling: Sampling = Sampling(),
    *,
    on_text: Callable[[str], None] = lambda text: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Generation:
    """Answers a prompt or a conversation.

    Args:
        base: The frozen model.
        prompt: A text to go on with, or the turns of a conversation.
        adapter: Patches of one version; None is the bare base.
        sampling: How tokens are chosen.
        on_text: Given each piece of the answer as soon as it is certain.
        cancelled: Asked before every token; True ends the answer.

    Raises:
        InputError: If the prompt is empty, or a conversation does not fit the chat template.
        PromptTooLongError: If prompt and answer exceed the context.
    """
    tokens = encode_prompt(base, prompt, sampling.max_new_tokens)
    answer = _Answer(base, sampling, on_text, cancelled)
    with torch.inference_mode(), base.bank.route(uniform(adapter)):
        base.model.generate(
            torch.tensor([tokens], device=base.device),
            attention_mask=torch.ones(1, len(tokens), dtype=torch.int64, device=base.device),
            max_new_tokens=sampling.max_new_tokens,
            do_sample=False,
            logits_processor=_processors(sampling, base.device),
            stopping_criteria=StoppingCriteriaList([answer]),
            pad_token_id=base.tokenizer.pad_token_id,
            streamer=answer,
        )
    return answer.finish(len(tokens))


def encode_prompt(base: Base, prompt: str | Sequence[Message], max_new_tokens: int) -> tuple[int, ...]:
    """The tokens of a prompt, checked against the context.

    Raises:
        InputError: If it is empty or does not fit the chat template.
        PromptTooLongError: If it and the answer exceed the context.
    """
    if isinstance(prompt, str):
        tokens = prompt_tokens(base.tokenizer, prompt)
    else:
        tokens = answer_tokens(base.tokenizer, chat_text(base.tokenizer, prompt, answer_next=True))
    if not tokens:
        raise InputError("the prompt is empty", hint="Send at least one character.")
    if len(tokens) + max_new_tokens > base.context_length:
        raise PromptTooLongError(
            f"the prompt has {len(tokens)} tokens and max_new_tokens is {max_new_tokens}; "
            f"the context of {base.name!r} holds {base.context_length}"
        )
    return tokens


class _Answer(StoppingCriteria):  # type: ignore[misc]
    """Receives tokens from `generate`, hands on text, and says when to stop."""

    def __init__(
        self, base: Base, sampling: Sampling, on_text: Callable[[str], None], cancelled: Callable[[], bool]
    ) -> None:
        self._tokenizer = base.tokenizer
        self._ends = base.end_tokens
        self._sampling = sampling
        self._on_text = on_text
        self._cancelled = cancelled
        self._tokens: list[int] = []
        self._text = ""
        self._sent = 0
        self._reason: FinishReason | None = None
        self._prompt_seen = False

    def put(self, value: Tensor) -> None:
        """Called by `generate`: first with the prompt, then with each token."""
        if not self._prompt_seen:
            self._prompt_seen = True
            return
        token = int(value.flatten()[0])
        self._tokens.append(token)
        if token in self._ends:
            self._reason = "stop"
            return
        self._text = self._tokenizer.decode(self._tokens, skip_special_tokens=True)
        found = [self._text.find(stop) for stop in self._sampling.stop if stop in self._text]
        if found:
            self._text, self._reason = self._text[: min(found)], "stop"
        self._send(self._certain())

    def end(self) -> None:
        """Called by `generate` at the end."""

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        """Called by `generate` after each token: whether each row is done."""
        if self._reason is None and self._cancelled():
            self._reason = "cancelled"
        return torch.full((len(input_ids),), self._reason is not None, device=input_ids.device)

    def finish(self, prompt_tokens: int) -> Generation:
        """The answer, after `generate` has returned."""
        self._send(len(self._text))
        return Generation(self._text, self._reason or "length", prompt_tokens, len(self._tokens))

    def _certain(self) -> int:
        """How much of the text later tokens cannot change or cut."""
        end = len(self._text)
        if self._reason is None:
            while end and self._text[end - 1] == "\ufffd":  # half of a character
                end -= 1
            for stop in self._sampling.stop:
                for size in range(min(len(stop) - 1, end), 0, -1):
                    if self._text[:end].endswith(stop[:size]):
                        end -= size
                        break
        return end

    def _send(self, end: int) -> None:
        if end > self._sent:
            self._on_text(self._text[self._sent : end])
            self._sent = end


class _Gumbel(LogitsProcessor):  # type: ignore[misc]
    """Adds Gumbel noise, so that the argmax is a sample from the softmax."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self._generator = torch.Generator(device).manual_seed(seed)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        uniform_noise = torch.rand(scores.shape, generator=self._generator, device=scores.device)
        return scores.float() - torch.log(-torch.log(uniform_noise.clamp(1e-20, 1 - 1e-7)))


def _processors(sampling: Sampling, device: torch.device) -> LogitsProcessorList:
    if sampling.temperature == 0:
        return LogitsProcessorList()
    processors = LogitsProcessorList([TemperatureLogitsWarper(sampling.temperature)])
    if sampling.top_k > 0:
        processors.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        processors.append(TopPLogitsWarper(sampling.top_p))
    processors.append(_Gumbel(sampling.seed, device))
    return processors
