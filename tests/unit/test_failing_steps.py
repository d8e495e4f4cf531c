"""Steps that fail: only the prompts concerned fail, and the others continue as if nothing had happened."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from server.device.prompts import PromptLimits, Prompts
from steerzo_edge.decoding import decoder as decoding
from steerzo_edge.decoding.cache_pool import CachePool
from steerzo_edge.decoding.decoder import Decoder, Piece, Request
from steerzo_edge.decoding.forward import CachedForward
from steerzo_edge.decoding.generate import Generation, encode_prompt, generate
from steerzo_edge.decoding.logprobs import logprobs_of
from steerzo_edge.decoding.row_forward import RowForward
from steerzo_edge.decoding.sampling import Sampling
from steerzo_edge.errors import CapacityError
from steerzo_edge.model.base import Base
from steerzo_edge.model.load import load_base
from steerzo_edge.model.patches import Linear
from tests.conftest import Loader
from tests.unit.test_decoding import mixed


class BrokenPatch:
    """An adapter's layer that works for a while."""

    groups = 1

    def __init__(self, lasts: int) -> None:
        self.lasts = lasts

    def __call__(self, base: Linear, x: Tensor) -> Tensor:
        self.lasts -= 1
        if self.lasts < 0:
            raise ArithmeticError("this adapter is broken")
        return base(x)


@pytest.fixture
def base(tiny: Loader) -> Base:
    return tiny("none", torch.float32)


@contextmanager
def ended_after(seconds: int) -> Iterator[None]:
    """A block that runs for ever fails after some seconds."""

    def stop(*_: Any) -> None:
        raise TimeoutError("it goes on for ever")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def request(base: Base, text: str, tokens: int, **settings: Any) -> Request:
    return Request(encode_prompt(base, text, tokens), Sampling(tokens, **settings))


def finished(decoder: Decoder, steps: int = 500) -> dict[int, Piece]:
    """The last piece of each request."""
    last: dict[int, Piece] = {}
    while len(decoder):
        for piece in decoder.step():
            assert piece.ticket not in last
            if piece.made is not None or piece.error is not None:
                last[piece.ticket] = piece
        steps -= 1
        assert steps, "the prompts never end"
    assert decoder.held_bytes == 0
    return last


def alone(base: Base, requests: list[Request]) -> list[Generation | None]:
    found = []
    for one in requests:
        decoder = Decoder(base)
        ticket = decoder.add(one)
        found.append(finished(decoder)[ticket].made)
    return found


def failing(monkeypatch: pytest.MonkeyPatch, fails: Callable[[Tensor], Exception | None]) -> list[Exception]:
    """Forwards raise what `fails` says for their ids; what was raised."""
    raised: list[Exception] = []

    def checked(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def run(model: Any, ids: Tensor, positions: Tensor, past: Any) -> Tensor:
            found = forward(model, ids, positions, past)  # the cache is written to before it fails
            error = fails(ids)
            if error is not None:
                raised.append(error)
                raise error
            return found

        return run

    monkeypatch.setattr(CachedForward, "_run", checked(CachedForward._run))
    monkeypatch.setattr(RowForward, "states", checked(RowForward.states))
    return raised


@pytest.mark.parametrize("lasts", [0, 5])
@pytest.mark.parametrize("leaves", [False, True])
def test_generate_raises_what_a_step_failed_with(base: Base, lasts: int, *, leaves: bool) -> None:
    """While the prompt is read, or later; also when the caller cancels at the same time."""
    name = next(iter(base.bank.layers))
    with ended_after(20), pytest.raises(ArithmeticError, match="this adapter is broken"):
        generate(base, "once", {name: BrokenPatch(lasts)}, Sampling(40), cancelled=lambda: leaves and not lasts)
    assert not base.bank.active


def test_generate_raises_when_the_base_has_no_row_for_a_token(tiny_path: Path) -> None:
    """Its tokenizer knows more tokens than its embedding has rows."""
    small = load_base(str(tiny_path), quantization="none", device="cpu")
    small.model.resize_token_embeddings(100)
    with ended_after(20), pytest.raises(IndexError):
        generate(small, "\u00ff\u00fe", sampling=Sampling(4))


@pytest.mark.parametrize("lasts", [0, 1, 5])
def test_a_row_that_fails_fails_alone(base: Base, lasts: int) -> None:
    """While it is read, at its first token, or later."""
    requests = mixed(base, 6)
    expected = alone(base, requests)
    name = next(iter(base.bank.layers))
    decoder = Decoder(base)
    tickets = [decoder.add(one) for one in requests[:3]]
    broken = decoder.add(Request((7, 8, 9), Sampling(40), {name: BrokenPatch(lasts)}))
    tickets += [decoder.add(one) for one in requests[3:]]
    last = finished(decoder)
    assert isinstance(last[broken].error, ArithmeticError)
    assert [last[ticket].made for ticket in tickets] == expected
    assert not base.bank.active


@pytest.mark.parametrize("fault", ["forward", "after the choice"])
def test_a_temporary_fault_fails_no_request(base: Base, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    """Nor does it change what sampled rows say: noise that was drawn is used again."""
    requests = mixed(base, 6)
    expected = alone(base, requests)
    count = 0

    def every_fifth(error: Exception) -> Exception | None:
        nonlocal count
        count += 1
        return error if count % 5 == 0 else None

    if fault == "forward":
        raised = failing(
            monkeypatch, lambda ids: every_fifth(RuntimeError("a bit flipped")) if len(ids) > 1 else None
        )
    else:
        plain = logprobs_of
        raised = []

        def flaky(scores: Tensor, *others: Any) -> Any:
            error = every_fifth(RuntimeError("a bit flipped")) if len(scores) > 1 else None
            if error is not None:
                raised.append(error)
                raise error
            return plain(scores, *others)

        monkeypatch.setattr(decoding, "logprobs_of", flaky)
    decoder = Decoder(base)
    tickets = [decoder.add(one) for one in requests]
    last = finished(decoder)
    assert [last[ticket].made for ticket in tickets] == expected
    assert len(raised) > 1


@pytest.mark.parametrize("where", ["forward", "join"])
def test_out_of_memory_parks_the_latest_request(base: Base, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    requests = [request(base, "good" + "x" * n, 12 + n, temperature=float(n % 2), seed=n) for n in range(9)]
    expected = alone(base, requests)
    if where == "forward":
        raised = failing(monkeypatch, lambda ids: torch.OutOfMemoryError("no") if len(ids) > 3 else None)
    else:
        raised = []
        fit = CachePool._fit

        def small(pool: CachePool, lengths: list[int]) -> None:
            if len(lengths) > 3:
                raised.append(MemoryError())
                raise raised[-1]
            fit(pool, lengths)

        monkeypatch.setattr(CachePool, "_fit", small)
    decoder = Decoder(base)
    tickets = [decoder.add(one) for one in requests]
    order: list[int] = []
    while len(decoder):
        for piece in decoder.step():
            assert piece.error is None
            if piece.made is not None:
                order.append(piece.ticket)
                assert piece.made == expected[tickets.index(piece.ticket)]
    assert sorted(order) == tickets
    assert set(order[:3]) == set(tickets[:3])  # they were never sent away
    assert len(raised) < 30  # who was parked comes back when there is room, not at every step
    assert decoder.held_bytes == 0


def test_a_single_request_without_enough_memory_fails(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, lambda ids: torch.OutOfMemoryError("no") if ids.shape[1] == 1 else None)
    prompts = Prompts(PromptLimits(rows=2))
    prompts.open(base)
    asked = [prompts.ask(Asked(request(base, "good" + "x" * n, 5))) for n in range(4)]
    for _ in range(60):
        prompts.turn()
    assert all(isinstance(future.exception(timeout=0), CapacityError) for future in asked)
    monkeypatch.undo()
    after = prompts.ask(Asked(request(base, "good", 5)))
    while prompts.any:
        prompts.turn()
    assert after.result() == generate(base, "good", sampling=Sampling(5))


def test_no_request_joins_while_one_is_parked(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, lambda ids: torch.OutOfMemoryError("no") if len(ids) > 2 else None)
    prompts = Prompts(PromptLimits(rows=3))
    prompts.open(base)
    askers = [Asked(request(base, "good" + "x" * n, 30)) for n in range(4)]
    futures = [prompts.ask(asker) for asker in askers]
    for _ in range(8):
        prompts.turn()
    assert (prompts.active, prompts.waiting) == (3, 1)
    askers[2].has_left = True  # the parked one
    prompts.turn()
    assert futures[2].result(timeout=0).finish_reason == "cancelled"
    while prompts.any:
        prompts.turn()
    for place in (0, 1, 3):
        expected = generate(base, "good" + "x" * place, sampling=Sampling(30))
        assert futures[place].result() == expected


def test_a_failing_listener_fails_only_its_request(base: Base) -> None:
    class Deaf(Asked):
        def on_text(self, text: str) -> None:
            raise ValueError("no ears")

    prompts = Prompts(PromptLimits())
    prompts.open(base)
    deaf, well = prompts.ask(Deaf(request(base, "good", 8))), prompts.ask(Asked(request(base, "good", 8)))
    while prompts.any:
        prompts.turn()
    assert isinstance(deaf.exception(), ValueError)
    assert well.result() == generate(base, "good", sampling=Sampling(8))


class Asked:
    """A prompt that is ready."""

    def __init__(self, asked: Request) -> None:
        self.asked = asked
        self.has_left = False

    def request(self, base: Base) -> Request:
        return self.asked

    def on_text(self, text: str) -> None:
        pass
