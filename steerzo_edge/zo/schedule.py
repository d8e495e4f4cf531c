"""The learning rate over the steps: warm-up, then constant, linear or cosine decay. A pure function."""

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Schedule:
    """Learning rate of a step.

    Args:
        learning_rate: The peak rate.
        steps: Length of the run.
        kind: "constant", or "linear" or "cosine" decay from the peak to `floor` times the peak.
        warmup: Steps of linear rise before it.
        floor: Share of the peak that is left at the end.
    """

    learning_rate: float
    steps: int
    kind: Literal["constant", "linear", "cosine"] = "constant"
    warmup: int = 0
    floor: float = 0.0

    def __call__(self, step: int) -> float:
        """The rate of step `step`, counted from 0."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / (self.warmup + 1)
        if self.kind == "constant":
            return self.learning_rate
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        left = 1 - done if self.kind == "linear" else (1 + math.cos(math.pi * done)) / 2
        return self.learning_rate * (self.floor + (1 - self.floor) * left)
