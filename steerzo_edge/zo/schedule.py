"""The learning rate over the steps, as a share of its peak: warm-up, then constant, linear or cosine decay."""

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Schedule:
    """Share of the peak rate at a step: a pure function.

    Args:
        steps: Length of the run.
        kind: "constant", or "linear" or "cosine" decay from the peak to `floor` times the peak.
        warmup: Steps of linear rise before it.
        floor: Share of the peak that is left at the end.
    """

    steps: int
    kind: Literal["constant", "linear", "cosine"] = "constant"
    warmup: int = 0
    floor: float = 0.0

    def __call__(self, step: int) -> float:
        """The share at step `step`, counted from 0: 0 to 1."""
        if step < self.warmup:
            return (step + 1) / (self.warmup + 1)
        if self.kind == "constant":
            return 1.0
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        left = 1 - done if self.kind == "linear" else (1 + math.cos(math.pi * done)) / 2
        return self.floor + (1 - self.floor) * left

    @property
    def rms_sum(self) -> float:
        """Root of the summed squared shares: how far a random walk of such steps goes, in units of a peak step."""
        return math.sqrt(math.fsum(self(step) ** 2 for step in range(self.steps)))
