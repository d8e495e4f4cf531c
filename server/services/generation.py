"""Generates answers with the base and any adapter, whole or in pieces, for /generate and the routes under /v1.

Requests come from the event loop, answers are made on the device's thread. A prompt is encoded on a request thread,
once for all its answers. When a client disconnects, the work for it ends before the device's next time slice; a
prompt that was not admitted yet is not computed at all.
"""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import Future
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as HttpRequest

from server.services.context import Context
from steerzo_edge.data.tokens import Tokens
from steerzo_edge.decoding.answer import Logprobs
from steerzo_edge.decoding.decoder import Request
from steerzo_edge.decoding.generate import Generation, Prompt, Sampling, encode_prompt
from steerzo_edge.model.base import Base
from steerzo_edge.model.patches import Patches

MOST_TOKENS = 4096
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """A request for one answer.

    Args:
        prompt: A text to continue, its tokens, or the turns of a conversation, perhaps with tools.
        sampling: How tokens are chosen.
        adapter: The id or name of a job or an adapter, "latest", or None for the base alone.
        fill_context: Whether the answer may fill what the prompt leaves of the context, 4096 tokens at most,
            instead of being limited by the sampling's `max_new_tokens`.
        length_name: The name of the parameter that gave `max_new_tokens`, for errors.
    """

    prompt: Prompt
    sampling: Sampling
    adapter: str | None = None
    fill_context: bool = False
    length_name: str = "max_new_tokens"


@dataclass(frozen=True, slots=True)
class TextPiece:
    """A piece of an answer, and its tokens' log-probabilities if they were requested."""

    text: str
    logprobs: Logprobs = ()


@dataclass(frozen=True, slots=True)
class FinishedAnswer:
    """A finished answer, and the id of the job or adapter that answered; None is the base alone."""

    adapter: str | None
    made: Generation


_News = asyncio.Queue[tuple[int, TextPiece | None]]


async def whole_answer(server: Context, wanted: GenerationRequest, http: HttpRequest) -> FinishedAnswer:
    """One answer, when it is finished; see `whole_answers`."""
    return (await whole_answers(server, [wanted], http))[0]


async def whole_answers(
    server: Context, wanted: Sequence[GenerationRequest], http: HttpRequest
) -> list[FinishedAnswer]:
    """Several answers, made together, when all are finished.

    Args:
        server: The server's parts.
        wanted: A request for each answer.
        http: The HTTP request, whose body has been read; if its client disconnects, the work ends.

    Raises:
        SteerzoError: If a prompt or an adapter cannot be used, or the queue is full.
    """
    listeners = [_Listener(server, *each) for each in await _encoded(server, wanted)]
    try:
        results = asyncio.gather(*[asyncio.wrap_future(server.device.ask(one)) for one in listeners])
        made = await while_connected(results, http, partial(_cancel, listeners))
        return [one.answer(each) for one, each in zip(listeners, made, strict=True)]
    finally:
        _cancel(listeners)


async def while_connected(results: asyncio.Future[T], http: HttpRequest, cancel: Callable[[], None]) -> T:
    """Awaits what the device's thread computes for an HTTP request, and ends the work if its client disconnects.

    Args:
        results: What is awaited, also after the client has disconnected.
        http: The HTTP request, whose body has been read.
        cancel: Ends the work.
    """
    left = asyncio.ensure_future(_left(http))
    try:
        waited: list[asyncio.Future[T] | asyncio.Future[None]] = [results, left]
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        if not results.done():
            cancel()
        return await results
    finally:
        left.cancel()
        with suppress(asyncio.CancelledError):
            await left


async def streamed_answer(
    server: Context, wanted: GenerationRequest
) -> AsyncGenerator[TextPiece | FinishedAnswer, None]:
    """The pieces of one answer as they are made, then the finished answer; see `streamed_answers`."""
    return _without_numbers(await streamed_answers(server, [wanted]))


async def streamed_answers(
    server: Context, wanted: Sequence[GenerationRequest]
) -> AsyncGenerator[tuple[int, TextPiece | FinishedAnswer], None]:
    """The pieces of several answers, made together, as they are made, and each finished answer.

    Args:
        server: The server's parts.
        wanted: A request for each answer.

    Returns:
        The pieces, each with the index of its request. Closing the iterator before its end ends the work.

    Raises:
        SteerzoError: As `whole_answers`; raised by this call and not by the iterator, so before anything is sent.
    """
    encoded = await _encoded(server, wanted)
    for adapter in {one.adapter for one in wanted if one.adapter is not None}:
        await asyncio.wrap_future(server.device.submit(partial(_looked_up, server, adapter)))
    news: _News = asyncio.Queue()
    listeners = [_Listener(server, *each, news, number) for number, each in enumerate(encoded)]
    try:
        futures = [server.device.ask(one) for one in listeners]
    except BaseException:
        _cancel(listeners)
        raise
    return _pieces(listeners, futures, news)


class _Prompt:
    """What all answers to one prompt share: its tokens, and one version of an adapter."""

    def __init__(self, server: Context, tokens: Tokens, adapter: str | None) -> None:
        self.tokens = tokens
        self._server = server
        self._adapter = adapter
        self._found: tuple[str | None, Patches | None] | None = None

    def adapter(self) -> tuple[str | None, Patches | None]:
        """The adapter's id and patches, as of the first answer; called on the device's thread."""
        if self._found is None:
            self._found = (None, None) if self._adapter is None else self._server.runner.adapter(self._adapter)
        return self._found


class _Listener:
    """Passes one answer from the device's thread to the event loop; see `LogprobListener`."""

    def __init__(
        self, server: Context, prompt: _Prompt, sampling: Sampling, news: _News | None = None, number: int = 0
    ) -> None:
        self._news = news
        self._number = number
        self._server = server
        self._prompt = prompt
        self._sampling = sampling
        self._loop = asyncio.get_running_loop()
        self._gone = threading.Event()
        self._asked_at = time.perf_counter()
        self._first_text_s: float | None = None
        self._adapter: str | None = None
        self._logprobs: Logprobs = ()

    def request(self, base: Base) -> Request:
        self._adapter, patches = self._prompt.adapter()
        return Request(self._prompt.tokens, self._sampling, patches)

    def on_logprobs(self, logprobs: Logprobs) -> None:
        self._logprobs = logprobs

    def on_text(self, text: str) -> None:
        if self._first_text_s is None:
            self._first_text_s = time.perf_counter() - self._asked_at
        self._put(TextPiece(text, self._logprobs))
        self._logprobs = ()

    def close(self, future: Future[Generation]) -> None:
        self._put(None)  # no more pieces will come

    @property
    def has_left(self) -> bool:
        return self._gone.is_set()

    def cancel(self) -> None:
        self._gone.set()

    def answer(self, made: Generation) -> FinishedAnswer:
        self._server.metrics.answered(
            made.finish_reason,
            prompt_tokens=made.prompt_tokens,
            generated_tokens=made.completion_tokens,
            seconds=time.perf_counter() - self._asked_at,
            first_text_s=self._first_text_s,
        )
        return FinishedAnswer(self._adapter, made)

    def _put(self, piece: TextPiece | None) -> None:
        if self._news is None:
            return
        with suppress(RuntimeError):  # the loop has closed: there is no reader any more
            self._loop.call_soon_threadsafe(self._news.put_nowait, (self._number, piece))


async def _encoded(server: Context, wanted: Sequence[GenerationRequest]) -> list[tuple[_Prompt, Sampling]]:
    """Each request's encoded prompt, and its sampling with a length that fits the context."""
    base, tokenizer = server.device.base, server.tokenizer
    prompts: dict[tuple[int, str | None], _Prompt] = {}
    found = []
    for one in wanted:
        sampling = one.sampling
        key = id(one.prompt), one.adapter
        if key not in prompts:
            least = 1 if one.fill_context else sampling.max_new_tokens
            encode = partial(
                encode_prompt, base, one.prompt, least, tokenizer=tokenizer, length_name=one.length_name
            )
            prompts[key] = _Prompt(server, await run_in_threadpool(encode), one.adapter)
        if one.fill_context:
            room = base.context_length - len(prompts[key].tokens)
            sampling = replace(sampling, max_new_tokens=min(MOST_TOKENS, room))
        found.append((prompts[key], sampling))
    return found


def _looked_up(server: Context, adapter: str, base: Base) -> None:
    server.runner.adapter(adapter)


async def _pieces(
    listeners: Sequence[_Listener], futures: Sequence[Future[Generation]], news: _News
) -> AsyncGenerator[tuple[int, TextPiece | FinishedAnswer], None]:
    for one, future in zip(listeners, futures, strict=True):
        future.add_done_callback(one.close)
    try:
        for _ in listeners:
            number, piece = await news.get()
            while piece is not None:
                yield number, piece
                number, piece = await news.get()
            made = await asyncio.wrap_future(futures[number])
            yield number, listeners[number].answer(made)
    finally:
        _cancel(listeners)


async def _without_numbers(
    pieces: AsyncGenerator[tuple[int, TextPiece | FinishedAnswer], None],
) -> AsyncGenerator[TextPiece | FinishedAnswer, None]:
    async with aclosing(pieces):
        async for _, piece in pieces:
            yield piece


def _cancel(listeners: Sequence[_Listener]) -> None:
    for one in listeners:
        one.cancel()


async def _left(http: HttpRequest) -> None:
    """Returns when the client has disconnected."""
    while (await http.receive())["type"] != "http.disconnect":
        pass
