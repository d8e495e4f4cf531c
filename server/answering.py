"""Answers from the base with any adapter: asked on the event loop, made on the device's thread.

Whole or in pieces, for /generate and for the routes under /v1. A client that leaves is noticed at once, and the
work for it ends before the device's next quantum; if its turn has not come yet, nothing is computed at all.
"""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import Future
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace

from starlette.requests import Request as HttpRequest

from server.context import Context
from steerzo_edge.data.examples import Message
from steerzo_edge.data.tokenization import Tokens
from steerzo_edge.decoding.decoder import Request
from steerzo_edge.generation import Generation, Sampling, encode_prompt
from steerzo_edge.model.base import Base

MOST_TOKENS = 4096
_News = asyncio.Queue[tuple[int, str | None]]


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
class Answer:
    """What came of it; `adapter` is the id of the job whose adapter answered."""

    adapter: str | None
    made: Generation


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
    asked = [_Asked(server, question) for question in questions]
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


async def checked(server: Context, question: Question) -> None:
    """Finds what is wrong with a question before anything is sent.

    Raises:
        SteerzoError: As `whole_answer`.
    """
    await asyncio.wrap_future(server.device.submit(_Asked(server, question).check))


async def streamed_answer(server: Context, question: Question) -> AsyncGenerator[str | Answer, None]:
    """The pieces of the answer as they come, and at the end all of it; see `streamed_answers`."""
    return _without_numbers(await streamed_answers(server, [question]))


async def streamed_answers(
    server: Context, questions: Sequence[Question]
) -> AsyncGenerator[tuple[int, str | Answer], None]:
    """The pieces of some answers as they come, and at the end of each all of it; they are made together.

    Args:
        server: The server's parts.
        questions: What is asked.

    Returns:
        The pieces, each with the number of its question. If the iterator is closed before its end, the work ends.

    Raises:
        SteerzoError: As `whole_answers`, here and not from the iterator: nothing has been sent yet.
    """
    await asyncio.gather(*[checked(server, question) for question in questions])
    news: _News = asyncio.Queue()
    asked = [_Asked(server, question, news, number) for number, question in enumerate(questions)]
    try:
        futures = [server.device.ask(one) for one in asked]
    except BaseException:
        _leave(asked)
        raise
    return _pieces(asked, futures, news)


class _Asked:
    """One question on its way through the device's thread; made on the event loop. See `Asker`."""

    def __init__(self, server: Context, question: Question, news: _News | None = None, number: int = 0) -> None:
        self._news = news
        self._number = number
        self._server = server
        self._question = question
        self._loop = asyncio.get_running_loop()
        self._gone = threading.Event()
        self._asked_at = time.perf_counter()
        self._first_text_s: float | None = None
        self._adapter: str | None = None

    def check(self, base: Base) -> None:
        self._encoded(base)
        if self._question.adapter is not None:
            self._server.runner.adapter(self._question.adapter)

    def request(self, base: Base) -> Request:
        patches = None
        if self._question.adapter is not None:
            self._adapter, patches = self._server.runner.adapter(self._question.adapter)
        return Request(*self._encoded(base), patches)

    def hear(self, text: str) -> None:
        if self._first_text_s is None:
            self._first_text_s = time.perf_counter() - self._asked_at
        self._put(text)

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

    def _encoded(self, base: Base) -> tuple[Tokens, Sampling]:
        """The prompt, and the question's sampling with a length that the context has been checked for."""
        sampling = self._question.sampling
        least = 1 if self._question.fill_context else sampling.max_new_tokens
        tokens = encode_prompt(base, self._question.prompt, least)
        if not self._question.fill_context:
            return tokens, sampling
        return tokens, replace(sampling, max_new_tokens=min(MOST_TOKENS, base.context_length - len(tokens)))

    def _put(self, piece: str | None) -> None:
        if self._news is None:
            return
        with suppress(RuntimeError):  # the loop has closed: nobody listens any more
            self._loop.call_soon_threadsafe(self._news.put_nowait, (self._number, piece))


async def _pieces(
    asked: Sequence[_Asked], futures: Sequence[Future[Generation]], news: _News
) -> AsyncGenerator[tuple[int, str | Answer], None]:
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
    pieces: AsyncGenerator[tuple[int, str | Answer], None],
) -> AsyncGenerator[str | Answer, None]:
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
