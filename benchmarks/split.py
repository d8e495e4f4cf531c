"""Measures where a step's time goes, by clocks around the engine's own functions.

Only for steps that are not counted: on CUDA every clock waits for the device.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from steerzo_edge.model import attention
from steerzo_edge.model.bank import BankLinear
from steerzo_edge.model.head import Head
from steerzo_edge.model.prefix import PrefixStore
from steerzo_edge.model.quantization import STORAGES
from steerzo_edge.zo.direction import Direction
from steerzo_edge.zo.noise import Noise

PARTS = ("base layers", "adapters", "attention", "head", "noise", "prefix", "rest")
# Inner clocks stop outer ones, so that no second is counted twice: an adapter's time excludes its base layer's.
CLOCKED: list[tuple[Any, str, str]] = [
    *((linear, "batch_matmul", "base layers") for linear in {storage.linear for storage in STORAGES.values()}),
    (BankLinear, "forward", "adapters"),
    (attention, "_plain", "attention"),
    (attention, "_fused", "attention"),
    (attention, "_laid_out", "attention"),
    (Head, "logits", "head"),
    (Head, "log_likelihoods", "head"),
    (Noise, "draw", "noise"),
    (Direction, "added_to", "noise"),
    (Direction, "materialize", "noise"),
    (PrefixStore, "of", "prefix"),
]


class Split:
    """Seconds by part."""

    def __init__(self, device: torch.device) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self._device = device
        self._running = ["rest"]
        self._since = time.perf_counter()

    def switch(self, part: str | None) -> None:
        """Begins another part; None ends the innermost one."""
        if self._device.type == "cuda":
            torch.cuda.synchronize()
        now = time.perf_counter()
        self.seconds[self._running[-1]] += now - self._since
        self._since = now
        if part is None:
            self._running.pop()
        else:
            self._running.append(part)

    def shares(self) -> dict[str, float]:
        """Each part's share of the whole."""
        total = sum(self.seconds.values())
        return {part: self.seconds[part] / total for part in PARTS}


@contextmanager
def clocked(device: torch.device) -> Iterator[Split]:
    """Clocks everything that runs inside the block."""
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in CLOCKED]
    split = Split(device)
    try:
        for owner, name, part in CLOCKED:
            setattr(owner, name, _clock(getattr(owner, name), part, split))
        yield split
    finally:
        for owner, name, function in before:
            setattr(owner, name, function)
        split.switch(None)


def _clock(function: Callable[..., Any], part: str, split: Split) -> Callable[..., Any]:
    def inner(*args: Any, **kwargs: Any) -> Any:
        split.switch(part)
        try:
            return function(*args, **kwargs)
        finally:
            split.switch(None)

    return inner
