"""A thousand prompts of every fate leave nothing behind."""

import gc
import weakref
from collections import Counter
from concurrent.futures import Future
from pathlib import Path

import pytest
import torch
from torch import Tensor

from server.device.prompts import PromptLimits, Prompts
from server.errors import PromptTimeoutError
from steerzo_edge.decoding.decoder import Request
from steerzo_edge.decoding.generate import Generation
from steerzo_edge.decoding.sampling import Sampling
from steerzo_edge.errors import BusyError, NotFoundError
from steerzo_edge.model.base import Base
from steerzo_edge.model.patches import Linear, Patches
from tests.conftest import Loader
from tests.unit.test_decoding import adapters

COUNT = 1000


class FailingPatch:
    groups = 1

    def __call__(self, base: Linear, x: Tensor) -> Tensor:
        raise ArithmeticError("this adapter is broken")


class PromptListener:
    """A prompt with a fate: every number has one of its own."""

    def __init__(self, number: int, kinds: list[Patches | None]) -> None:
        self.number = number
        self.kinds = kinds
        self.pieces = 0

    @property
    def has_left(self) -> bool:
        return self.number % 10 == 1 and self.pieces > 1

    def request(self, base: Base) -> Request:
        if self.number % 10 == 2:
            raise NotFoundError("no such adapter")
        kind: Patches | None = self.kinds[self.number % len(self.kinds)]
        if self.number % 10 == 3:
            kind = {next(iter(base.bank.layers)): FailingPatch()}
        tokens = tuple(range(10, 13 + self.number % 40))
        length = 200 if self.number % 10 in (1, 4) else 1 + self.number % 9
        logprobs = 3 if self.number % 7 == 0 else None
        return Request(tokens, Sampling(length, float(self.number % 2), seed=self.number, logprobs=logprobs), kind)

    def on_text(self, text: str) -> None:
        self.pieces += 1


def tensor_bytes() -> int:
    gc.collect()
    found = [thing for thing in gc.get_objects() if issubclass(type(thing), Tensor)]
    return sum(tensor.nbytes for tensor in found)


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:.*torch.distributed:FutureWarning")
def test_a_thousand_prompts_leave_no_tensor_behind(tiny: Loader) -> None:
    base = tiny("none", torch.float32)
    kinds = adapters(base)
    now = 0.0
    prompts = Prompts(PromptLimits(waiting=12, rows=8, prefill_tokens=16, timeout_s=40), now=lambda: now)
    prompts.open(base)
    fates: Counter[str] = Counter()
    left: list[weakref.ref[object]] = []

    def answer(first: int, count: int) -> None:
        nonlocal now
        asked: list[Future[Generation]] = []
        number = first
        while number < first + count or prompts.any:
            try:
                while number < first + count:
                    asker = PromptListener(number, kinds)
                    asked.append(prompts.ask(asker))
                    left.extend((weakref.ref(asker), weakref.ref(asked[-1])))
                    number += 1
            except BusyError:
                fates["busy"] += 1
            prompts.turn()
            now += 1
        for future in asked:
            error = future.exception(timeout=0)
            fates[future.result().finish_reason if error is None else type(error).__name__] += 1

    answer(0, 200)
    tensors, resident = tensor_bytes(), resident_bytes()
    answer(200, COUNT - 200)
    assert tensor_bytes() <= tensors
    assert resident_bytes() - resident < 64 << 20  # tensors are counted above; this is the allocator's
    assert (prompts.waiting, prompts.active) == (0, 0)
    assert not any(reference() is not None for reference in left)
    assert len(left) == 2 * COUNT
    # Every fate was among them.
    expected = {"stop", "length", "cancelled", "timeout", "NotFoundError", "ArithmeticError", "busy"}
    assert set(fates) >= expected, fates
    assert set(fates) <= expected | {PromptTimeoutError.__name__}
    assert not base.bank.active
