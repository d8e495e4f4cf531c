"""The learning rate of a step, and how many steps fit into the minutes.

wsd:     up, level, and down to zero as 1 - sqrt over the last part. The level part does not know how long the run
         is, so its length can still change when the machine turns out slower or quicker.
cosine:  up, and down to a tenth. Its length is fixed before the first step.
"""

import math
from dataclasses import dataclass
from typing import Literal

ScheduleKind = Literal["wsd", "cosine"]


@dataclass(frozen=True, slots=True)
class Schedule:
    """The share of the peak learning rate.

    Args:
        kind: Of the shape.
        warmup: Steps upwards; at most a tenth of the run.
        decay: Share of the run in which "wsd" goes down.
    """

    kind: ScheduleKind = "wsd"
    warmup: int = 100
    decay: float = 0.25

    def share(self, step: int, steps: int) -> float:
        """Of the peak rate, above 0 and at most 1.

        Args:
            step: From 0.
            steps: Of the whole run.
        """
        warmup = min(self.warmup, steps // 10)
        if step < warmup:
            return (step + 1) / (warmup + 1)
        if self.kind == "cosine":
            done = (step - warmup) / max(1, steps - warmup)
            return 0.1 + 0.45 * (1 + math.cos(math.pi * done))
        start = self.decay_start(steps)
        return 1.0 if step < start else 1.0 - math.sqrt((step - start) / (steps - start + 1))

    def decay_start(self, steps: int) -> int:
        """The first step of the last part of "wsd"; 0 for "cosine", which is never level."""
        return steps - int(self.decay * steps) if self.kind == "wsd" else 0

    def can_change(self, step: int, steps: int) -> bool:
        """Whether the run's length may still be another one: between going up and going down."""
        return self.kind == "wsd" and self.warmup < step < self.decay_start(steps)

    def fitted(self, done: int, seconds_left: float, seconds_a_step: float, at_most: int) -> int:
        """Length of the whole run.

        Args:
            done: Steps that are behind it.
            seconds_left: Of the time it may take.
            seconds_a_step: As measured.
            at_most: What the text allows for.

        Returns:
            At least 1. A run that has reached the level part is given the steps to go down in, even where the time
            is up: weights from the level part are worth clearly less.
        """
        steps = min(at_most, done + max(0, int(seconds_left / seconds_a_step)))
        down = math.ceil(done / (1 - self.decay)) if self.kind == "wsd" else done
        return max(1, steps, down)
