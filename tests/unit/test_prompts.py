"""Prompts on the device: who joins, who waits, who is sent away; and what training gets meanwhile."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from server.device.prompts import PromptLimits, Prompts
from server.device.shares import Shares
from server.device.thread import Device
from server.errors import PromptTimeoutError, status_of
from steerzo_edge.decoding.decoder import Decoder, Request
from steerzo_edge.decoding.generate import encode_prompt, generate
from steerzo_edge.decoding.sampling import Sampling
from steerzo_edge.errors import BusyError, CapacityError, NotFoundError, SteerzoError
from steerzo_edge.model.base import Base
from steerzo_edge.model.patches import Patches
from tests.conftest import Loader

DEADLINE_S = 20


class Listener:
    """Gives one prompt, and collects the text of its answer."""

    def __init__(self, prompt: str = "good =>", tokens: int = 8, adapter: Patches | None = None) -> None:
        self.prompt = prompt
        self.tokens = tokens
        self.adapter = adapter
        self.text = ""
        self.looked_up = 0
        self.has_left = False
        self.error: Exception | None = None

    def request(self, base: Base) -> Request:
        self.looked_up += 1
        if self.error is not None:
            raise self.error
        return Request(encode_prompt(base, self.prompt, self.tokens), Sampling(self.tokens), self.adapter)

    def on_text(self, text: str) -> None:
        self.text += text


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def base(tiny: Loader) -> Base:
    return tiny("none", torch.float32)


def opened(base: Base, clock: Clock | None = None, **limits: Any) -> Prompts:
    prompts = Prompts(PromptLimits(**limits), now=clock or Clock())
    prompts.open(base)
    return prompts


def finish(prompts: Prompts) -> None:
    turns = 0
    while prompts.any:
        prompts.turn()
        turns += 1
        assert turns < 1000


def test_answers_are_those_of_a_prompt_alone(base: Base) -> None:
    prompts = opened(base, rows=3)
    listeners = [Listener("good" + "x" * number, 4 + number) for number in range(7)]
    futures = [prompts.ask(listener) for listener in listeners]
    assert (prompts.waiting, prompts.active) == (7, 0)
    prompts.turn()
    assert (prompts.waiting, prompts.active) == (4, 3)
    finish(prompts)
    for listener, future in zip(listeners, futures, strict=True):
        assert future.result() == generate(base, listener.prompt, sampling=Sampling(listener.tokens))
        assert listener.text == future.result().text
        assert listener.looked_up == 1


def test_the_queue_has_a_bound(base: Base) -> None:
    prompts = opened(base, waiting=2)
    asked = [prompts.ask(Listener()) for _ in range(2)]
    with pytest.raises(BusyError):
        prompts.ask(Listener())
    finish(prompts)
    assert all(future.done() for future in asked)


def test_requests_join_in_order_as_memory_allows(base: Base) -> None:
    small, large = Listener("a", 20), Listener("a" * 100, 100)
    # Three layers, keys and values of one head of 32 numbers, 4 bytes each; room for four rows is made at once.
    most = Decoder(base).cache_bytes([large.request(base)])
    assert most == 4 * 256 * (3 * 2 * 32 * 4)
    prompts = opened(base, cache_bytes=most)
    others = [prompts.ask(Listener(text, 20)) for text in "bcde"]
    fifth, second, third = (prompts.ask(listener) for listener in (small, large, Listener("a", 20)))
    prompts.turn()
    # With the large one there would be eight rows of 256 tokens. The small one after it would fit, but waits.
    assert (prompts.active, prompts.waiting) == (5, 2)
    while sum(future.done() for future in (*others, fifth)) < 1:
        prompts.turn()
        assert prompts.waiting == 2
    while not second.done():
        prompts.turn()
        assert prompts.active <= 4 or not second.running()
    finish(prompts)
    assert second.result().prompt_tokens == 100
    assert third.done()


def test_a_prompt_that_never_fits_is_refused_with_figures(base: Base) -> None:
    prompts = opened(base, cache_bytes=1000)
    future = prompts.ask(Listener())
    prompts.turn()
    error = future.exception()
    assert isinstance(error, CapacityError)
    assert "1,000" in str(error)


def test_an_error_reaches_only_its_request(base: Base) -> None:
    prompts = opened(base)
    wrong, right = Listener(), Listener()
    wrong.error = NotFoundError("no such adapter")
    futures = prompts.ask(wrong), prompts.ask(right)
    finish(prompts)
    assert futures[0].exception() is wrong.error
    assert futures[1].result().completion_tokens > 0


def test_a_cancelled_request_frees_its_row_within_one_turn(base: Base) -> None:
    prompts = opened(base, rows=1)
    leaving, next_one, never = Listener(tokens=200), Listener(tokens=4), Listener()
    futures = [prompts.ask(listener) for listener in (leaving, next_one, never)]
    prompts.turn()
    prompts.turn()
    leaving.has_left = never.has_left = True
    prompts.turn()
    assert futures[0].result().finish_reason == "cancelled"
    assert futures[0].result().completion_tokens == 2
    assert futures[2].result().completion_tokens == 0
    assert (never.looked_up, next_one.looked_up) == (0, 1)
    finish(prompts)
    assert futures[1].result().completion_tokens == 4


def test_a_request_times_out(base: Base) -> None:
    """Before the first token it is an error; after it the answer ends with what there is."""
    clock = Clock()
    prompts = opened(base, clock, rows=2, prefill_tokens=4, timeout_s=10)
    quick, unread, waiting = Listener("a", 200), Listener("b" * 100, 10), Listener()
    futures = [prompts.ask(listener) for listener in (quick, unread, waiting)]
    for _ in range(3):
        prompts.turn()
    clock.now = 10
    late = prompts.ask(Listener())
    prompts.turn()
    made = futures[0].result()
    assert made.finish_reason == "timeout"
    assert made.text == quick.text
    assert made.completion_tokens >= 2
    for future in futures[1:]:
        error = future.exception()
        assert isinstance(error, PromptTimeoutError)
        assert status_of(error) == 504
    finish(prompts)
    assert late.result().finish_reason in ("stop", "length")


def test_a_step_that_fails_fails_its_prompts_and_no_others(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = opened(base)
    with monkeypatch.context() as patched:
        patched.setattr(Decoder, "step", lambda self: (_ for _ in ()).throw(torch.OutOfMemoryError("no")))
        failed = prompts.ask(Listener())
        prompts.turn()
    assert isinstance(failed.exception(), CapacityError)
    after = prompts.ask(Listener())
    finish(prompts)
    assert after.result() == generate(base, "good =>", sampling=Sampling(8))


def test_training_has_its_share_in_the_long_run() -> None:
    shares = Shares(0.25)
    prompted = trained = 0.0
    for _ in range(10_000):
        shares.prompted(0.02)
        prompted += 0.02
        if shares.is_training_due:
            shares.trained(0.7, among_prompts=True)
            trained += 0.7
    assert trained / (prompted + trained) == pytest.approx(0.25, abs=0.01)


def test_a_short_prompt_is_not_interrupted_and_idle_time_is_not_saved() -> None:
    shares = Shares(0.25)
    for _ in range(100):
        shares.trained(0.4, among_prompts=False)
    for _ in range(50):
        shares.prompted(0.02)
        assert not shares.is_training_due
    for _ in range(20):
        shares.prompted(0.02)
    assert shares.is_training_due
    none = Shares(0)
    none.prompted(100)
    assert not none.is_training_due


class Steps:
    """A job without end, whose steps take a while."""

    def __init__(self) -> None:
        self.began: list[float] = []
        self.took_s: list[float] = []

    def start(self, base: Base) -> None:
        pass

    def next_job(self) -> Iterator[None]:
        while True:
            self.began.append(time.monotonic())
            time.sleep(0.005)
            self.took_s.append(time.monotonic() - self.began[-1])
            yield


def test_training_and_prompts_take_turns(base: Base) -> None:
    steps = Steps()
    device = Device(lambda: base, steps, limits=PromptLimits(), training_share=0.3)
    device.start()
    deadline = time.monotonic() + DEADLINE_S
    while not steps.began:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    try:
        before = time.monotonic()
        futures = [device.ask(Listener("good" * number, 200)) for number in range(1, 5)]
        for future in futures:
            assert future.result(DEADLINE_S).completion_tokens > 0
        took_s = time.monotonic() - before
        among_s = sum(seconds for began, seconds in zip(steps.began, steps.took_s, strict=False) if began > before)
        assert among_s > 0.1 * took_s
    finally:
        unanswered = device.ask(Listener("good", 200))
        device.stop()
        device.join(DEADLINE_S)
    assert isinstance(unanswered.exception(DEADLINE_S), SteerzoError)
    with pytest.raises(BusyError):
        device.ask(Listener())
