"""Answers from the base with any adapter: asked on the event loop, made on the device's thread.

Whole or in pieces, for /generate and for the routes under /v1. A prompt is encoded on a thread of the web's, once
for all its answers. A client that leaves is noticed at once, and the work for it ends before the device's next
quantum; if its turn has not come yet, nothing is computed at all.
"""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import Future
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from functools import partial

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as HttpRequest

from server.services.context import Context
from steerzo_edge.data.examples import Message
from steerzo_edge.data.tokens import Tokens
from steerzo_edge.decoding.answer import Logprobs
from steerzo_edge.decoding.decoder import Request
from steerzo_edge.decoding.generate import Generation, Sampling, encode_prompt
from steerzo_edge.model.base import Base
from steerzo_edge.model.patches import Patches

MOST_TOKENS = 4096


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked.

    Args:
        prompt: A text to go on with, or the turns of a conversation.
        sampling: How tokens are chosen.
        adapter: A job's id or name, "latest", or None for the bare base.
        fill_context: Whether the answer may take what the prompt leaves of the context, instead of the sampling's
            `max_new_tokens`; at most MOST_TOKENS either way.
    """

    prompt: str | Sequence[Message]
    sampling: Sampling
    adapter: str | None = None
    fill_context: bool = False


@dataclass(frozen=True, slots=True)
class TextPiece:
    """A piece of an answer, and how likely its tokens were, if that was asked for."""

    text: str
    logprobs: Logprobs = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of it; `adapter` is the id of the job whose adapter answered."""

    adapter: str | None
    made: Generation


_News = asyncio.Queue[tuple[int, TextPiece | None]]


async def whole_answer(server: Context, question: Question, request: HttpRequest) -> Answer:
    """The answer when it is finished; see `whole_answers`."""
    return (await whole_answers(server, [question], request))[0]


async def whole_answers(server: Context, questions: Sequence[Question], request: HttpRequest) -> list[Answer]:
    """Some answers when all are finished; they are made together.

    Args:
        server: The server's parts.
        questions: What is asked.
        request: Whose body has been read; if its client leaves, the work ends.

    Raises:
        SteerzoError: What a prompt, an adapter or the queue is refused for.
    """
    asked = [_Asked(server, *each) for each in await _encoded(server, questions)]
    left = asyncio.ensure_future(_left(request))
    try:
        results = asyncio.gather(*[asyncio.wrap_future(server.device.ask(one)) for one in asked])
        waited: list[asyncio.Future[list[Generation]] | asyncio.Future[None]] = [results, left]
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        if not results.done():
            _leave(asked)
        return [one.answer(made) for one, made in zip(asked, await results, strict=True)]
    finally:
        _leave(asked)
        left.cancel()
        with suppress(asyncio.CancelledError):
            await left


async def streamed_answer(server: Context, question: Question) -> AsyncGenerator[TextPiece | Answer, None]:
    """The pieces of the answer as they come, and at the end all of it; see `streamed_answers`."""
    return _without_numbers(await streamed_answers(server, [question]))


async def streamed_answers(
    server: Context, questions: Sequence[Question]
) -> AsyncGenerator[tuple[int, TextPiece | Answer], None]:
    """The pieces of some answers as they come, and at the end of each all of it; they are made together.

    Args:
        server: The server's parts.
        questions: What is asked.

    Returns:
        The pieces, each with the number of its question. If the iterator is closed before its end, the work ends.

    Raises:
        SteerzoError: As `whole_answers`, here and not from the iterator: nothing has been sent yet.
    """
    encoded = await _encoded(server, questions)
    for adapter in {question.adapter for question in questions if question.adapter is not None}:
        await asyncio.wrap_future(server.device.submit(partial(_looked_up, server, adapter)))
    news: _News = asyncio.Queue()
    asked = [_Asked(server, *each, news, number) for number, each in enumerate(encoded)]
    try:
        futures = [server.device.ask(one) for one in asked]
    except BaseException:
        _leave(asked)
        raise
    return _pieces(asked, futures, news)


class _Prompt:
    """What the answers to one prompt have in common: its tokens, and one version of an adapter."""

    def __init__(self, server: Context, tokens: Tokens, adapter: str | None) -> None:
        self.tokens = tokens
        self._server = server
        self._adapter = adapter
        self._found: tuple[str | None, Patches | None] | None = None

    def adapter(self) -> tuple[str | None, Patches | None]:
        """On the device's thread: its id and its patches, as of the first answer's turn."""
        if self._found is None:
            self._found = (None, None) if self._adapter is None else self._server.runner.adapter(self._adapter)
        return self._found


class _Asked:
    """One question on its way through the device's thread; made on the event loop. See `LogprobListener`."""

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

    def hear_logprobs(self, logprobs: Logprobs) -> None:
        self._logprobs = logprobs

    def hear(self, text: str) -> None:
        if self._first_text_s is None:
            self._first_text_s = time.perf_counter() - self._asked_at
        self._put(TextPiece(text, self._logprobs))
        self._logprobs = ()

    def close(self, future: Future[Generation]) -> None:
        self._put(None)  # no more pieces will come

    @property
    def has_left(self) -> bool:
        return self._gone.is_set()

    def leave(self) -> None:
        self._gone.set()

    def answer(self, made: Generation) -> Answer:
        self._server.metrics.answered(
            made.finish_reason,
            prompt_tokens=made.prompt_tokens,
            generated_tokens=made.completion_tokens,
            seconds=time.perf_counter() - self._asked_at,
            first_text_s=self._first_text_s,
        )
        return Answer(self._adapter, made)

    def _put(self, piece: TextPiece | None) -> None:
        if self._news is None:
            return
        with suppress(RuntimeError):  # the loop has closed: nobody listens any more
            self._loop.call_soon_threadsafe(self._news.put_nowait, (self._number, piece))


async def _encoded(server: Context, questions: Sequence[Question]) -> list[tuple[_Prompt, Sampling]]:
    """Each question's prompt, encoded, and its sampling with a length that the context has been checked for."""
    base, tokenizer = server.device.base, server.tokenizer
    prompts: dict[tuple[int, str | None], _Prompt] = {}
    found = []
    for question in questions:
        sampling = question.sampling
        key = id(question.prompt), question.adapter
        if key not in prompts:
            least = 1 if question.fill_context else sampling.max_new_tokens
            encode = partial(encode_prompt, base, question.prompt, least, tokenizer=tokenizer)
            prompts[key] = _Prompt(server, await run_in_threadpool(encode), question.adapter)
        if question.fill_context:
            room = base.context_length - len(prompts[key].tokens)
            sampling = replace(sampling, max_new_tokens=min(MOST_TOKENS, room))
        found.append((prompts[key], sampling))
    return found


def _looked_up(server: Context, adapter: str, base: Base) -> None:
    server.runner.adapter(adapter)


async def _pieces(
    asked: Sequence[_Asked], futures: Sequence[Future[Generation]], news: _News
) -> AsyncGenerator[tuple[int, TextPiece | Answer], None]:
    for one, future in zip(asked, futures, strict=True):
        future.add_done_callback(one.close)
    try:
        for _ in asked:
            number, piece = await news.get()
            while piece is not None:
                yield number, piece
                number, piece = await news.get()
            made = await asyncio.wrap_future(futures[number])
            yield number, asked[number].answer(made)
    finally:
        _leave(asked)


async def _without_numbers(
    pieces: AsyncGenerator[tuple[int, TextPiece | Answer], None],
) -> AsyncGenerator[TextPiece | Answer, None]:
    async with aclosing(pieces):
        async for _, piece in pieces:
            yield piece


def _leave(asked: Sequence[_Asked]) -> None:
    for one in asked:
        one.leave()


async def _left(request: HttpRequest) -> None:
    """Returns when the client has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
