"""Answers on their way between the event loop and the device's thread; who leaves is not worked for."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from server.device.prompts import PromptLimits
from server.device.thread import Device
from server.errors import NotReadyError
from server.metrics import Metrics
from server.services.generation import (
    MOST_TOKENS,
    FinishedAnswer,
    GenerationRequest,
    TextPiece,
    streamed_answer,
    whole_answer,
    whole_answers,
)
from steerzo_edge.decoding.answer import Logprobs, PartialAnswer
from steerzo_edge.decoding.generate import Sampling, encode_prompt
from steerzo_edge.errors import PromptTooLongError
from steerzo_edge.model.base import Base
from tests.conftest import Loader

QUESTION = GenerationRequest("good =>", Sampling(max_new_tokens=6))
DEADLINE_S = 20


class Idle:
    """No training."""

    def start(self, base: Base) -> None:
        pass

    def next_job(self) -> None:
        return None


@pytest.fixture
def server(tiny: Loader) -> Iterator[Any]:
    """The parts that answers need."""
    base = tiny("none", torch.float32)
    device = Device(lambda: base, Idle(), limits=PromptLimits(), training_share=0.25)
    device.start()
    deadline = time.monotonic() + DEADLINE_S
    while True:
        with suppress(NotReadyError):
            _ = device.base
            break
        assert time.monotonic() < deadline
        time.sleep(0.001)
    yield SimpleNamespace(
        device=device,
        tokenizer=base.tokenizer,
        runner=SimpleNamespace(adapter=lambda name: (f"job_{name}", None)),
        metrics=Metrics(),
    )
    device.stop()
    device.join(DEADLINE_S)
    assert not device.is_alive


@pytest.fixture
def endless(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """No answer ends by itself; counts the tokens that every step reads again."""
    asked: list[int] = []

    def put(answer: PartialAnswer, token: int, logprob: None, **others: bool) -> tuple[str, Logprobs]:
        asked.append(token)
        answer.tokens.append(token)
        return "x", ()

    monkeypatch.setattr(PartialAnswer, "put", put)
    return asked


def idle(server: Any) -> bool:
    deadline = time.monotonic() + DEADLINE_S
    while server.device.answering or server.device.waiting:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    return True


async def until(condition: Callable[[], bool]) -> None:
    """Returns when the condition holds, which other threads and tasks may bring about."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.001)


def request(left: asyncio.Event) -> Any:
    async def receive() -> dict[str, str]:
        await left.wait()
        return {"type": "http.disconnect"}

    return SimpleNamespace(receive=receive)


def test_a_stream_is_the_whole_answer_in_pieces(server: Any) -> None:
    async def ask() -> tuple[FinishedAnswer, list[TextPiece | FinishedAnswer]]:
        whole = await whole_answer(server, QUESTION, request(asyncio.Event()))
        assert len(asyncio.all_tasks()) == 1
        return whole, [piece async for piece in await streamed_answer(server, QUESTION)]

    whole, (*pieces, last) = asyncio.run(ask())
    assert last == whole
    assert "".join(piece.text for piece in pieces if isinstance(piece, TextPiece)) == whole.made.text
    assert whole.made.completion_tokens > 0


def test_several_answers_are_generated_together(server: Any) -> None:
    questions = [replace(QUESTION, prompt=text) for text in ("good =>", "a", "the third")]

    async def ask() -> tuple[list[FinishedAnswer], list[FinishedAnswer]]:
        nobody_leaves = asyncio.Event()
        together = await whole_answers(server, questions, request(nobody_leaves))
        return together, [await whole_answer(server, one, request(nobody_leaves)) for one in questions]

    together, alone = asyncio.run(ask())
    assert together == alone
    assert len({answer.made.text for answer in together}) == 3


def test_a_client_that_disconnects_stops_its_whole_answer(server: Any, endless: list[int]) -> None:
    async def ask() -> FinishedAnswer:
        left = asyncio.Event()
        asking = asyncio.create_task(whole_answer(server, QUESTION, request(left)))
        await until(lambda: bool(endless))
        left.set()
        return await asyncio.wait_for(asking, DEADLINE_S)

    assert asyncio.run(ask()).made.finish_reason == "cancelled"
    assert idle(server)


def test_a_client_that_disconnects_stops_its_stream(server: Any, endless: list[int]) -> None:
    async def ask() -> None:
        pieces = await streamed_answer(server, QUESTION)
        assert await anext(pieces) == TextPiece("x")
        await pieces.aclose()

    asyncio.run(ask())
    assert idle(server)


def test_a_client_that_leaves_before_its_turn_costs_nothing(
    server: Any, endless: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = threading.Event()
    held = server.device.submit(lambda base: busy.wait(DEADLINE_S))
    waiting: list[Any] = []
    ask_device = server.device.ask
    monkeypatch.setattr(server.device, "ask", lambda prompt: (waiting.append(prompt), ask_device(prompt))[1])

    async def ask() -> FinishedAnswer:
        left = asyncio.Event()
        asking = asyncio.create_task(whole_answer(server, QUESTION, request(left)))
        await until(lambda: server.device.waiting == 1)
        left.set()
        await until(lambda: all(prompt.has_left for prompt in waiting))
        busy.set()
        return await asking

    assert asyncio.run(ask()).made.finish_reason == "cancelled"
    assert held.result()
    assert not endless


def test_an_answer_may_fill_the_context(server: Any) -> None:
    async def ask(prompt: str) -> FinishedAnswer:
        question = GenerationRequest(prompt, Sampling(max_new_tokens=1), "mine", fill_context=True)
        return await whole_answer(server, question, request(asyncio.Event()))

    filled = asyncio.run(ask("x" * 250))
    assert filled.adapter == "job_mine"
    assert 1 < filled.made.completion_tokens <= 6
    assert MOST_TOKENS > 256
    with pytest.raises(PromptTooLongError):
        asyncio.run(ask("x" * 256))


def test_prompts_are_encoded_off_the_devices_thread_and_once(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """So one that is too long is refused while the device is busy, and answers to one prompt share their tokens."""
    threads: list[str] = []

    def noted(*parts: Any, **settings: Any) -> tuple[int, ...]:
        threads.append(threading.current_thread().name)
        return encode_prompt(*parts, **settings)

    monkeypatch.setattr("server.services.generation.encode_prompt", noted)
    looked_up: list[str] = []
    server.runner.adapter = lambda name: (looked_up.append(name) or f"job_{name}", None)
    busy = threading.Event()
    held = server.device.submit(lambda base: busy.wait(DEADLINE_S))

    async def ask() -> list[FinishedAnswer]:
        nobody_leaves = request(asyncio.Event())
        with pytest.raises(PromptTooLongError):
            await whole_answer(server, replace(QUESTION, prompt="x" * 300), nobody_leaves)
        with pytest.raises(PromptTooLongError):
            await streamed_answer(server, replace(QUESTION, prompt="x" * 300))
        busy.set()
        several = [
            replace(QUESTION, sampling=Sampling(6, temperature=1.0, seed=seed), adapter="mine") for seed in range(3)
        ]
        return await whole_answers(server, several, nobody_leaves)

    answers = asyncio.run(ask())
    assert held.result()
    assert [answer.adapter for answer in answers] == ["job_mine"] * 3
    assert looked_up == ["mine"]
    assert len(threads) == 3
    assert "device" not in threads
