"""Steps with exact gradients: the record of a step, and the move that it stands for.

A journal's line has the loss and the gradient's norm, not the gradient: it would be as large as the adapter. A step
whose gradient is no longer in memory (after a resume or a rewind) is therefore computed again from the same
parameters and the same batch. Where that gives another loss than the journal has, the machine rounds differently
from the one that wrote it, and the run goes on from there with a warning.
"""

import logging
from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from steerzo_edge.data.batches import Batch
from steerzo_edge.records import StepRecord
from steerzo_edge.training.gradients import ExactGradients, StepGradient
from steerzo_edge.training.linearized import Tangent
from steerzo_edge.training.progress import Progress
from steerzo_edge.zo.entry import Entry
from steerzo_edge.zo.rule import Rule

log = logging.getLogger(__name__)
NOT_FINITE = "the loss or its gradient was not finite"


class ExactSteps:
    """Takes steps along exact gradients.

    Args:
        gradients: Of the subset's master copy.
        parameters: Those that get gradients, a view of the master copy; moved by `apply` only.
        rule: Moves them.
        batches: The batch of a step.
        segments: Parts of `parameters` that the rule handles one after the other.
        max_norm: Longer gradients are scaled down to this norm; None: no limit.
    """

    def __init__(
        self,
        gradients: ExactGradients,
        parameters: Tensor,
        rule: Rule,
        batches: Callable[[int], Batch],
        segments: list[slice],
        max_norm: float | None,
    ) -> None:
        self._gradients = gradients
        self._parameters = parameters
        self._rule = rule
        self._batches = batches
        self._segments = segments
        self._max_norm = max_norm
        self._latest: tuple[int, StepGradient] | None = None
        self._warned = False

    def step(self, progress: Progress, learning_rate: float, seconds: Callable[[], float]) -> Entry:
        """Computes the gradient of the next step; nothing moves.

        Args:
            progress: Where the run is.
            learning_rate: The step's rate, after the schedule.
            seconds: Since the step began.
        """
        step = progress.step
        found = self._gradients.of(step)
        self._latest = step, found
        scale = self._scale(found)
        record = StepRecord(
            step=step,
            loss=found.loss if found.finite else None,
            slope=found.norm if found.finite else 0.0,
            learning_rate=learning_rate,
            epsilon=0.0,
            forwards=progress.forwards + 1,
            tokens=progress.tokens + self._batches(step).tokens,
            seconds=seconds(),
            dropped=0,
            skipped=None if found.finite else NOT_FINITE,
            scale=scale,
            clipped=scale < 1,
        )
        return Entry(record)

    def take_tangents(self) -> tuple[Tangent, ...]:
        """Hands over what the loss of the step that was computed last is to the layers below."""
        assert self._latest is not None
        step, found = self._latest
        self._latest = step, replace(found, tangents=())
        return found.tangents

    def apply(self, record: StepRecord) -> None:
        """Moves the parameters as a record says; skipped steps move nothing."""
        latest, self._latest = self._latest, None
        if record.skipped:
            return
        if latest is not None and latest[0] == record.step:
            found = latest[1]
        else:
            found = self._gradients.of(record.step)
            self._compare(found, record)
        scale = self._scale(found)
        gradient = found.vector if scale == 1 else found.vector.mul_(scale)
        self._rule.step(self._parameters, ((part, gradient[part]) for part in self._segments), record.learning_rate)

    def _scale(self, found: StepGradient) -> float:
        if self._max_norm is None or not found.finite or found.norm <= self._max_norm:
            return 1.0
        return self._max_norm / found.norm

    def _compare(self, found: StepGradient, record: StepRecord) -> None:
        if (found.loss, found.norm) != (record.loss, record.slope) and not self._warned:
            self._warned = True
            log.warning(
                "step %d was computed again with another result (loss %r, the journal has %r): this machine, its "
                "number of threads or a library rounds differently, so the adapter will differ in its last bits",
                record.step,
                found.loss,
                record.loss,
            )
