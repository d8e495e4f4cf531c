"""Records of a run: one for each step, each evaluation, each search for settings, each verdict of the watcher.

Plain numbers that are made once: the journal stores them, the server streams them, the progress bar draws them.
Steps count from 0.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One finished step.

    Args:
        step: Index of the step, from 0.
        loss: Estimated batch loss at the step's parameters, in nats; None if the step was skipped.
        slope: Projected gradient along the step's direction scaled to norm sqrt(d), nats per unit; with exact
            gradients the norm of the gradient.
        learning_rate: The rate this step used, after the schedule.
        epsilon: Probe radius; 0 with exact gradients.
        forwards: Forward passes spent by the run so far, this step included.
        tokens: Real (unpadded) tokens put through the model by the run so far.
        seconds: Wall-clock time of this step, up to its line in the journal.
        dropped: Candidates of this step whose loss was not finite.
        skipped: Why the parameters did not move, or None.
        rejected: Candidates whose loss was finite, but far above the pool's.
        spread: Standard deviation of the pool's losses, nats; None where the method has no pool.
        scale: Factor that the estimate was multiplied by before the rule used it.
        clipped: Whether its slope was cut to a bound.
    """

    step: int
    loss: float | None
    slope: float
    learning_rate: float
    epsilon: float
    forwards: int
    tokens: int
    seconds: float
    dropped: int
    skipped: str | None = None
    rejected: int = 0
    spread: float | None = None
    scale: float = 1.0
    clipped: bool = False

    kind = "step"

    def as_dict(self) -> dict[str, Any]:
        """The record as JSON-ready values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class EvalRecord:
    """One evaluation on rows that are not trained on.

    Args:
        step: Number of finished steps; 0 is the untouched base.
        loss: Mean loss in nats (per target token, or over the options).
        accuracy: Share of rows answered right; None where the data has no options.
        examples: Rows evaluated.
        best: Whether this is the best evaluation of the run so far.
        metrics: Every metric that was taken, by name, in [0, 1]; 1 is best.
        score: The metric that evaluations are compared by; None compares them by their losses alone.
    """

    step: int
    loss: float
    accuracy: float | None
    examples: int
    best: bool
    metrics: Mapping[str, float] = field(default_factory=dict)
    score: float | None = None

    kind = "eval"

    def as_dict(self) -> dict[str, Any]:
        """The record as JSON-ready values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class TuneRecord:
    """The values found before the first step for settings that were left to "auto".

    Args:
        step: 0: found before that step.
        epsilon: Probe radius.
        learning_rate: Peak rate.
        noise: Root mean square error of a pair's loss difference at the chosen radius, nats; None if the radius was
            given.
        forwards: Forward passes it took.
        tokens: Real tokens put through the model.
        seconds: Wall-clock time.
        message: The same in words.
    """

    step: int
    epsilon: float
    learning_rate: float
    noise: float | None
    forwards: int
    tokens: int
    seconds: float
    message: str

    kind = "tune"

    def as_dict(self) -> dict[str, Any]:
        """The record as JSON-ready values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class WatchRecord:
    """The watcher's verdict on a run that fails or stands still.

    Args:
        step: Number of finished steps.
        verdict: "diverged", "plateau" or "never-left-the-start".
        message: What was seen and what is done about it.
        factor: The learning rate is multiplied by it from here on.
        back_to: Parameters are rewound to their state after this many steps; None leaves them.
        stop: Whether the run ends here.
    """

    step: int
    verdict: str
    message: str
    factor: float = 1.0
    back_to: int | None = None
    stop: bool = False

    kind = "watch"

    def as_dict(self) -> dict[str, Any]:
        """The record as JSON-ready values."""
        return asdict(self)


Record = StepRecord | EvalRecord | TuneRecord | WatchRecord
