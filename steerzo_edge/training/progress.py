"""How far a run is: the sum of its journal's entries, and which of them led to its present parameters."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from steerzo_edge.objectives.evaluation import Evaluation
from steerzo_edge.records import EvalRecord, StepRecord, TuneRecord, WatchRecord
from steerzo_edge.zo.entry import Entry
from steerzo_edge.zo.strategy import Carry


@dataclass(slots=True)
class Progress:
    """How far a run is: the sum of its journal's entries.

    Args:
        step: Finished steps.
        forwards: Forward passes spent.
        tokens: Real tokens put through the model.
        carry: What the strategy is given at its next step.
        carries: The same at each evaluation, for a rewind to there.
        evaluations: All so far.
        verdicts: The watcher's, so far.
        tuned: The values found for settings left to "auto".
        best: The best evaluation so far.
        stale: Evaluations since then.
        skipped: Steps skipped in a row.
        ends_at: Finished steps at which the run ends before its full length; None runs to the end.
    """

    step: int = 0
    forwards: int = 0
    tokens: int = 0
    carry: Carry = field(default_factory=dict)
    carries: dict[int, Carry] = field(default_factory=dict)
    evaluations: list[EvalRecord] = field(default_factory=list)
    verdicts: list[WatchRecord] = field(default_factory=list)
    tuned: TuneRecord | None = None
    best: EvalRecord | None = None
    stale: int = 0
    skipped: int = 0
    ends_at: int | None = None

    def last_step(self, steps: int) -> int:
        """The number of finished steps at which a run of `steps` steps ends."""
        return steps if self.ends_at is None else min(steps, self.ends_at)

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> "Progress":
        """The progress at the end of a journal."""
        progress = cls()
        for entry in entries:
            progress.add(entry)
        return progress

    def add(self, entry: Entry) -> None:
        """Adds one more entry."""
        record = entry.record
        match record:
            case StepRecord():
                self.step, self.forwards, self.tokens = record.step + 1, record.forwards, record.tokens
                self.carry = entry.carry
                self.skipped = self.skipped + 1 if record.skipped else 0
            case EvalRecord():
                self.evaluations.append(record)
                self.carries[record.step] = self.carry
                self.best, self.stale = (record, 0) if record.best else (self.best, self.stale + 1)
            case TuneRecord():
                self.tuned = record
                self.forwards += record.forwards
                self.tokens += record.tokens
            case WatchRecord():
                self.verdicts.append(record)
                self.stale = self.skipped = 0
                if record.back_to is not None:
                    self.carry = self.carries.get(record.back_to, {})

    @property
    def parameter_step(self) -> int:
        """The step whose result the parameters are now; below `step` just after a verdict rewound the run."""
        back_to = self.verdicts[-1].back_to if self.verdicts and self.verdicts[-1].step == self.step else None
        return self.step if back_to is None else back_to

    @property
    def factor(self) -> float:
        """Product of the factors by which the watcher changed the learning rate."""
        return math.prod(verdict.factor for verdict in self.verdicts)

    def improves(self, found: Evaluation) -> bool:
        """Whether an evaluation is the best so far: by its score where there is one, then by loss."""
        return self.best is None or _rank(found) < _rank(self.best)


def lineage(entries: Iterable[Entry], step: int, start: int = 0) -> list[Entry]:
    """The step entries that lead to the parameters after `step` steps, without those that a verdict rewound.

    Args:
        entries: Of a journal.
        step: Finished steps.
        start: Only the entries from this step on.
    """
    kept: list[Entry] = []
    for entry in entries:
        record = entry.record
        if isinstance(record, StepRecord) and start <= record.step < step:
            kept.append(entry)
        elif isinstance(record, WatchRecord) and record.back_to is not None and record.step <= step:
            back_to = record.back_to
            kept = [old for old in kept if old.record.step < back_to]
    return kept


def _rank(found: Evaluation | EvalRecord) -> tuple[float, float]:
    # Journals of older versions hold no score, only the accuracy.
    score = found.accuracy if found.score is None else found.score
    return -(score or 0), found.loss
