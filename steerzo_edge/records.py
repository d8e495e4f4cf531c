"""What a run says about itself: one record a step, one an evaluation.

Plain numbers, made once, passed along by everyone: the journal stores them, the server streams them, the
progress bar draws them. Steps count from 0.
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
        slope: Projected gradient along the step's direction scaled to norm sqrt(d), nats per unit.
        learning_rate: The rate this step used, after the schedule.
        epsilon: Probe radius.
        forwards: Forward passes spent by the run so far, this step included.
        tokens: Real (unpadded) tokens put through the model by the run so far.
        seconds: Wall-clock time of this step, up to its line in the journal.
        dropped: Candidates of this step whose loss was not finite.
        skipped: Why the parameters did not move, or None.
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


Record = StepRecord | EvalRecord
