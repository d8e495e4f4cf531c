"""Log-probabilities of prompts, for text completions that echo them, and embeddings of texts.

Prompts are encoded on a request thread and scored on the device's thread, many in one forward.
"""

import asyncio
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as HttpRequest
from transformers import PreTrainedTokenizerBase

from server.services.context import Context
from server.services.generation import FinishedAnswer, while_connected
from steerzo_edge.data.tokens import Tokens
from steerzo_edge.decoding.answer import Generation, Logprobs
from steerzo_edge.decoding.generate import Prompt, TokenIds, encode_prompt
from steerzo_edge.decoding.sampling import Sampling
from steerzo_edge.decoding.scoring import Pooling, Scored, ScoringRequest
from steerzo_edge.decoding.text import Text
from steerzo_edge.errors import CapacityError
from steerzo_edge.model.base import Base
from steerzo_edge.model.patches import Patches

# Most log-probabilities of one request; each takes about 100 bytes until it is sent.
MOST_NUMBERS: Final = 1 << 19


@dataclass(frozen=True, slots=True)
class EchoedPrompt:
    """A prompt as it is echoed.

    Args:
        tokens: Its tokens.
        text: Its text, without control tokens if it was given as tokens.
        logprobs: Of its tokens but the first, if it was scored.
        offsets: Where each token begins in the text, in characters, if it was scored.
        answers: If it was scored: for each sampling the answer of one token, and what that token's
            log-probabilities are, also if it ended the text.
    """

    tokens: Tokens
    text: str
    logprobs: Logprobs = ()
    offsets: tuple[int, ...] = ()
    answers: tuple[tuple[FinishedAnswer, Logprobs], ...] = ()


async def echoed_prompts(server: Context, prompts: Sequence[Prompt], max_tokens: int) -> list[EchoedPrompt]:
    """Prompts as they are echoed, without log-probabilities.

    Args:
        server: The server's parts.
        prompts: Texts, or their tokens.
        max_tokens: Tokens that the answer needs.

    Raises:
        InputError: If a prompt cannot be used.
    """
    return await run_in_threadpool(
        lambda: [_echoed(server.device.base, server.tokenizer, prompt, max_tokens) for prompt in prompts]
    )


async def scored_prompts(
    server: Context,
    echoed: Sequence[EchoedPrompt],
    adapter: str | None,
    likeliest: int,
    samplings: Sequence[Sampling],
    http: HttpRequest,
) -> list[EchoedPrompt]:
    """The same prompts with their log-probabilities, and with answers of one token.

    Args:
        server: The server's parts.
        echoed: The prompts.
        adapter: The id or name of a job or an adapter; None is the base.
        likeliest: For how many of the likeliest tokens at each place log-probabilities are returned.
        samplings: How the token after each prompt is chosen, for each answer; `max_new_tokens` must be 1.
        http: The HTTP request; if its client disconnects, the work ends.

    Raises:
        SteerzoError: If the adapter cannot be used, too many numbers are requested, or the queue is full.
    """
    numbers = sum(len(one.tokens) for one in echoed) * (likeliest + 1)
    if numbers > MOST_NUMBERS:
        raise CapacityError(
            f"the request asks for {numbers:,} log-probabilities; one may ask for {MOST_NUMBERS:,}",
            hint="Send fewer prompts in one request, or a smaller `logprobs`.",
        )
    texts = [ScoringRequest(one.tokens, likeliest, tuple(samplings)) for one in echoed]
    listener = _Listener(server, texts, adapter)
    found = await _scored(server, listener, http)
    return await run_in_threadpool(lambda: listener.finished(echoed, found))


async def embedded_texts(
    server: Context, texts: Sequence[Tokens], adapter: str | None, pooling: Pooling, http: HttpRequest
) -> list[tuple[float, ...]]:
    """The embedding of each text, of length 1; see `Scored`.

    Args:
        server: The server's parts.
        texts: Their tokens.
        adapter: The id or name of a job or an adapter; None is the base.
        pooling: How the hidden states of a text become one vector.
        http: The HTTP request; if its client disconnects, the work ends.

    Raises:
        SteerzoError: If the adapter cannot be used, or the queue is full.
    """
    listener = _Listener(server, [ScoringRequest(text, None, pooling=pooling) for text in texts], adapter)
    return [one.embedding for one in await _scored(server, listener, http)]


async def _scored(server: Context, listener: "_Listener", http: HttpRequest) -> list[Scored]:
    """What is computed for a listener's texts; nothing if the client has left."""
    try:
        future = await run_in_threadpool(partial(server.device.ask_scores, listener))
        return await while_connected(asyncio.wrap_future(future), http, listener.cancel)
    finally:
        listener.cancel()


class _Listener:
    """See `ScoringListener`."""

    def __init__(self, server: Context, texts: Sequence[ScoringRequest], adapter: str | None) -> None:
        self.texts = texts
        self._server = server
        self._name = adapter
        self._id: str | None = None
        self._gone = threading.Event()
        self._asked_at = time.perf_counter()

    def adapter(self) -> Patches | None:
        if self._name is None:
            return None
        self._id, patches = self._server.runner.adapter(self._name)
        return patches

    @property
    def has_left(self) -> bool:
        return self._gone.is_set()

    def cancel(self) -> None:
        self._gone.set()

    def finished(self, echoed: Sequence[EchoedPrompt], found: Sequence[Scored]) -> list[EchoedPrompt]:
        """The prompts with what was computed; none of them if the client had left."""
        seconds = time.perf_counter() - self._asked_at
        for one in found:
            for made in [answer.made for answer in one.answers] or [
                Generation("", "length", len(one.logprobs) + 1, 0)
            ]:
                self._server.metrics.answered(
                    made.finish_reason,
                    prompt_tokens=made.prompt_tokens,
                    generated_tokens=made.completion_tokens,
                    seconds=seconds,
                    first_text_s=None,
                )
        return [self._with_numbers(*each) for each in zip(echoed, found, strict=False)]

    def _with_numbers(self, echoed: EchoedPrompt, found: Scored) -> EchoedPrompt:
        offsets = _offsets(self._server.tokenizer, echoed.tokens)
        places = zip(found.logprobs, offsets[1:], strict=True)
        answers = tuple((FinishedAnswer(self._id, one.made), (one.logprob,)) for one in found.answers)
        return replace(
            echoed,
            logprobs=tuple(replace(one, offset=offset) for one, offset in places),
            offsets=offsets,
            answers=answers,
        )


def _echoed(base: Base, tokenizer: PreTrainedTokenizerBase, prompt: Prompt, max_tokens: int) -> EchoedPrompt:
    tokens = encode_prompt(base, prompt, max_tokens, tokenizer=tokenizer, length_name="max_tokens")
    if isinstance(prompt, str):
        return EchoedPrompt(tokens, prompt)
    assert isinstance(prompt, TokenIds)
    text = tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return EchoedPrompt(tokens, str(text))


def _offsets(tokenizer: PreTrainedTokenizerBase, tokens: Tokens) -> tuple[int, ...]:
    """Where each token begins in the tokens' text, in characters."""
    text = Text(tokenizer)
    length = 0
    found = []
    for token in tokens:
        found.append(length)
        length += len(text.put(token))
    return tuple(found)
