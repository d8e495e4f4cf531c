"""Answers on their way between the event loop and the device's thread; who leaves is not worked for."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from server import answering
from server.answering import MOST_TOKENS, Answer, Question, streamed_answer, whole_answer
from server.metrics import Metrics
from steerzo_edge.errors import PromptTooLongError
from steerzo_edge.generation import Generation, Sampling
from steerzo_edge.model.base import Base
from tests.conftest import Loader

QUESTION = Question("good =>", Sampling(max_new_tokens=6))
DEADLINE_S = 20


class Server:
    """The two parts that answers need; the device's thread is one of a pool."""

    def __init__(self, base: Base, pool: ThreadPoolExecutor) -> None:
        self.device = SimpleNamespace(submit=self._submit)
        self.metrics = Metrics()
        self.runner = SimpleNamespace(adapter=lambda name: (f"job_{name}", None))
        self._base = base
        self._pool = pool

    def _submit(self, call: Callable[[Base], Any]) -> "Future[Any]":
        return self._pool.submit(call, self._base)


@pytest.fixture
def server(tiny: Loader) -> Iterator[Any]:
    with ThreadPoolExecutor(1) as pool:
        yield Server(tiny("none", torch.float32), pool)


class Endless:
    """Generates until it is told to stop."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.ended = threading.Event(), threading.Event()
        monkeypatch.setattr(answering, "generate", self)

    def __call__(self, *given: Any, cancelled: Callable[[], bool], on_text: Any) -> Generation:
        self.begun.set()
        deadline = time.monotonic() + DEADLINE_S
        while not cancelled():
            on_text("x")
            assert time.monotonic() < deadline
            time.sleep(0.001)
        self.ended.set()
        return Generation("", "cancelled", 1, 1)


def request(left: asyncio.Event) -> Any:
    async def receive() -> dict[str, str]:
        await left.wait()
        return {"type": "http.disconnect"}

    return SimpleNamespace(receive=receive)


def test_a_stream_is_the_whole_answer_in_pieces(server: Any) -> None:
    async def ask() -> tuple[Answer, list[str | Answer]]:
        whole = await whole_answer(server, QUESTION, request(asyncio.Event()))
        assert len(asyncio.all_tasks()) == 1
        return whole, [piece async for piece in await streamed_answer(server, QUESTION)]

    whole, (*pieces, last) = asyncio.run(ask())
    assert last == whole
    assert "".join(map(str, pieces)) == whole.made.text
    assert whole.made.completion_tokens > 0


def test_who_leaves_while_waiting_for_the_whole_stops_it(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    endless = Endless(monkeypatch)

    async def ask() -> Answer:
        left = asyncio.Event()
        asking = asyncio.create_task(whole_answer(server, QUESTION, request(left)))
        assert await asyncio.to_thread(endless.begun.wait, DEADLINE_S)
        left.set()
        return await asking

    assert asyncio.run(ask()).made.finish_reason == "cancelled"


def test_who_leaves_a_stream_stops_it(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    endless = Endless(monkeypatch)

    async def ask() -> None:
        pieces = await streamed_answer(server, QUESTION)
        assert await anext(pieces) == "x"
        await pieces.aclose()
        assert await asyncio.to_thread(endless.ended.wait, DEADLINE_S)

    asyncio.run(ask())


def test_who_leaves_before_the_turn_comes_costs_nothing(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    busy = threading.Event()
    held = server.device.submit(lambda base: busy.wait(DEADLINE_S))
    endless = Endless(monkeypatch)

    async def ask() -> Answer:
        left = asyncio.Event()
        asking = asyncio.create_task(whole_answer(server, QUESTION, request(left)))
        await asyncio.sleep(0.01)
        left.set()
        await asyncio.sleep(0.01)
        busy.set()
        return await asking

    assert asyncio.run(ask()).made.finish_reason == "cancelled"
    assert held.result()
    assert not endless.begun.is_set()


def test_an_answer_may_fill_the_context(server: Any) -> None:
    async def ask(prompt: str) -> Answer:
        question = Question(prompt, Sampling(max_new_tokens=1), "mine", fill_context=True)
        return await whole_answer(server, question, request(asyncio.Event()))

    filled = asyncio.run(ask("x" * 250))
    assert filled.adapter == "job_mine"
    assert 1 < filled.made.completion_tokens <= 6
    assert MOST_TOKENS > 256
    with pytest.raises(PromptTooLongError):
        asyncio.run(ask("x" * 256))
