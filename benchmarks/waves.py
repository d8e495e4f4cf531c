"""Sends many prompts at once to a server's device thread, with or without a job, and measures the answers."""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from itertools import pairwise
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from benchmarks.workloads import workload
from server.device.prompts import PromptLimits
from server.device.thread import Device
from server.errors import NotReadyError
from steerzo_edge.decoding.decoder import Request
from steerzo_edge.decoding.generate import Generation
from steerzo_edge.model.base import Base
from steerzo_edge.run import Run
from steerzo_edge.settings.profile import resolve

TRAINING_SHARE = 0.25
PROFILE: dict[str, Any] = {
    "subset": {"kind": "lora"},
    "method": {"kind": "guiding-vector", "pool": 8, "epsilon": 0.01},
    "rule": {"kind": "momentum", "learning_rate": 0.001},
    "batch": {"examples": 8},
    "steps": 1_000_000,
    "evaluate": {"every": 1_000_000, "holdout": 0.05},
}


class TimedPrompt:
    """A prompt whose pieces are timed.

    Args:
        request: The prompt.

    Attributes:
        times: When each piece of the answer came, in seconds of `time.perf_counter`.
    """

    def __init__(self, request: Request) -> None:
        self.sent_at = time.perf_counter()
        self.times: list[float] = []
        self.has_left = False
        self._request = request

    def request(self, base: Base) -> Request:
        """See `PromptListener`."""
        return self._request

    def on_text(self, *piece: Any) -> None:
        """See `PromptListener`."""
        self.times.append(time.perf_counter())


class Switched:
    """A job that can be switched on and off.

    Args:
        directory: Of its run.
    """

    def __init__(self, directory: Path) -> None:
        self.on = False
        self._directory = directory
        self._run: Run | None = None
        self._steps: Iterator[Any] = iter(())

    def start(self, base: Base) -> None:
        """See `Training`."""
        self._run = Run(self._directory, base, resolve(PROFILE), workload("intents", 200))
        self._steps = self._run.records()

    def next_job(self) -> Iterator[None] | None:
        """See `Training`; a step is a job."""
        return self._one() if self.on else None

    def _one(self) -> Iterator[None]:
        next(self._steps)
        yield


class Stage:
    """A base on a device's thread, with a job to switch on and off.

    Args:
        base: The frozen model.
        directory: Where the job's run is kept.
    """

    def __init__(self, base: Base, directory: Path) -> None:
        self.base = base
        self._training = Switched(directory)
        self._device = Device(lambda: base, self._training, limits=PromptLimits(), training_share=TRAINING_SHARE)
        self._device.start()
        while True:
            try:
                _ = self._device.base
                return
            except NotReadyError:
                time.sleep(0.05)

    def switch(self, *, training: bool) -> None:
        """Switches the job; returns when a step has begun, or when none is left running."""
        self._training.on = training
        self._device.wake()
        while self._device.is_training != training:
            time.sleep(0.002)

    def wave(self, requests: Sequence[Request]) -> dict[str, float]:
        """Sends prompts at the same moment and waits for their answers.

        Returns:
            Seconds to the first text (median and longest), gaps between an answer's pieces (p50, p95, p99), tokens
            a second of all together, and the share of the time that training had.
        """
        spent, began = self._device.seconds["training"], time.perf_counter()
        prompts = [TimedPrompt(request) for request in requests]
        futures: list[Future[Generation]] = [self._device.ask(prompt) for prompt in prompts]
        tokens = sum(future.result().completion_tokens for future in futures)
        took = time.perf_counter() - began
        firsts = [prompt.times[0] - prompt.sent_at for prompt in prompts]
        gaps = [later - earlier for prompt in prompts for earlier, later in pairwise(prompt.times)]
        cuts = quantiles(gaps, n=100)
        return {
            "first_token_s": median(firsts),
            "last_first_token_s": max(firsts),
            "gap_p50_s": cuts[49],
            "gap_p95_s": cuts[94],
            "gap_p99_s": cuts[98],
            "tokens_per_s": tokens / took,
            "training_share": (self._device.seconds["training"] - spent) / took,
        }

    def close(self) -> None:
        """Ends the thread."""
        self._training.on = False
        self._device.stop()
        self._device.join(120)
