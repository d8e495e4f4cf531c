"""The loop: ask the strategy, ask the oracle, write the journal, move the parameters, say what happened.

A generator of records, made of built parts; it knows no profile, no file layout and no server. Stop iterating
and it is cancelled, at a point where everything is consistent.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from steerzo_edge.data.batches import Batch
from steerzo_edge.errors import DivergedError
from steerzo_edge.evaluation import Evaluation
from steerzo_edge.model.prefix import PrefixStore
from steerzo_edge.model.subset import Subset
from steerzo_edge.records import EvalRecord, Record, StepRecord
from steerzo_edge.seeds import step_seeds
from steerzo_edge.zo.blocks import Blocks
from steerzo_edge.zo.journal import Entry
from steerzo_edge.zo.oracle import Oracle
from steerzo_edge.zo.rule import Rule
from steerzo_edge.zo.schedule import Schedule
from steerzo_edge.zo.strategy import Estimate, Memory, Strategy

PATIENCE = 25


@dataclass(frozen=True, slots=True)
class Parts:
    """What a run is made of.

    Args:
        subset: Whose parameters are trained.
        blocks: What the steps perturb in turn; usually one block, which is everything.
        strategy: Decides what to probe.
        oracle: Evaluates probes on the same subset.
        rule: Moves the parameters.
        schedule: The learning rate of each step.
        batches: The batch of a step, a pure function of its index.
        seed: Of the run.
        steps: How many.
        evaluate: The parameters' quality on rows that are not trained on, or None.
        evaluate_every: Steps between evaluations; one at the start and one at the end besides.
        early_stop: Evaluations without a new best after which the run ends; None never does.
        prefix: What the oracle and the evaluation share; None where the lowest trained layer is the first.
    """

    subset: Subset
    blocks: Blocks
    strategy: Strategy
    oracle: Oracle
    rule: Rule
    schedule: Schedule
    batches: Callable[[int], Batch]
    seed: int
    steps: int
    evaluate: Callable[[], Evaluation] | None = None
    evaluate_every: int = 100
    early_stop: int | None = None
    prefix: PrefixStore | None = None


@dataclass(slots=True)
class Progress:
    """How far a run is: what the journal's lines add up to.

    Args:
        step: Finished steps.
        forwards: Forward passes spent.
        tokens: Real tokens put through the model.
        memory: What the strategy is told next.
        evaluated: Number of finished steps at the last evaluation, or -1.
        best: The best evaluation so far.
        stale: Evaluations since then.
        skipped: Steps skipped in a row.
    """

    step: int = 0
    forwards: int = 0
    tokens: int = 0
    memory: Memory = field(default_factory=dict)
    evaluated: int = -1
    best: EvalRecord | None = None
    stale: int = 0
    skipped: int = 0

    @classmethod
    def of(cls, entries: Sequence[Entry]) -> "Progress":
        """Where a journal leaves off."""
        progress = cls()
        for entry in entries:
            progress.add(entry)
        return progress

    def add(self, entry: Entry) -> None:
        """Takes one more line into account."""
        record = entry.record
        if isinstance(record, StepRecord):
            self.step, self.forwards, self.tokens = record.step + 1, record.forwards, record.tokens
            self.memory = entry.memory
            self.skipped = self.skipped + 1 if record.skipped else 0
            return
        self.evaluated = record.step
        self.best, self.stale = (record, 0) if record.best else (self.best, self.stale + 1)

    def improves(self, found: Evaluation) -> bool:
        """Whether an evaluation is the best so far: by its score where there is one, then by loss."""
        return self.best is None or _rank(found) < _rank(self.best)


def finetune(
    parts: Parts,
    *,
    journal: Callable[[Entry], None] = lambda entry: None,
    progress: Progress | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[Record]:
    """Runs until the last step, yielding a record for each step and each evaluation.

    Args:
        parts: What the run is made of; parameters and rule must stand where `progress` says.
        journal: Given every line BEFORE the parameters move; must not return before it is durable.
        progress: Where to go on; a new run by default.
        clock: Seconds, for the records.

    Yields:
        Step records, and evaluation records at step 0, every so many steps, and at the end.

    Raises:
        DivergedError: If no step had a finite loss for 25 steps in a row.
        CapacityError: From the oracle.
    """
    progress = progress or Progress()
    while True:
        if _evaluation_due(parts, progress):
            entry = Entry(_evaluated(parts, progress))
            journal(entry)
            progress.add(entry)
            yield entry.record
        if progress.step >= parts.steps or _stale(parts, progress):
            return

        started = clock()
        batch = parts.batches(progress.step)
        estimate, forwards = converse(parts, progress, batch)
        record = StepRecord(
            step=progress.step,
            loss=estimate.loss if math.isfinite(estimate.loss) else None,
            slope=estimate.slope,
            learning_rate=parts.schedule(progress.step),
            epsilon=parts.strategy.epsilon,
            forwards=progress.forwards + forwards,
            tokens=progress.tokens + forwards * batch.tokens,
            seconds=clock() - started,
            dropped=estimate.dropped,
            skipped=estimate.skipped,
        )
        entry = Entry(record, estimate.gradient, estimate.memory, parts.blocks.of(progress.step).index)
        journal(entry)
        apply(entry, parts.subset, parts.rule, parts.blocks)
        parts.blocks.noise.forget()
        progress.add(entry)
        yield record
        if progress.skipped >= PATIENCE:
            raise DivergedError(f"step {record.step}: {PATIENCE} steps in a row were skipped ({record.skipped})")


def converse(parts: Parts, progress: Progress, batch: Batch) -> tuple[Estimate, int]:
    """One step's dialogue between strategy and oracle.

    Returns:
        The estimate, and the number of forward passes it took.
    """
    forwards = 0
    block = parts.blocks.of(progress.step)
    dialogue = parts.strategy.propose(step_seeds(parts.seed, progress.step), progress.memory)
    probes = next(dialogue)
    while True:
        losses = parts.oracle.evaluate(probes, batch, block)
        forwards += len(probes)
        try:
            probes = dialogue.send(losses)
        except StopIteration as end:
            return end.value, forwards


def apply(entry: Entry, subset: Subset, rule: Rule, blocks: Blocks) -> None:
    """Moves the parameters as one line of the journal says; a skipped step moves nothing."""
    if not isinstance(entry.record, StepRecord) or entry.record.skipped:
        return
    noise = blocks.noise
    gradient = (
        (noise.segments[index], entry.gradient.materialize(noise, index))
        for index in blocks.blocks[entry.block].segments
    )
    rule.step(subset.parameters, gradient, entry.record.learning_rate)


def replay(entries: Sequence[Entry], subset: Subset, rule: Rule, blocks: Blocks) -> None:
    """Applies journal lines to parameters that stand where the first of them begins. No forward pass."""
    for entry in entries:
        apply(entry, subset, rule, blocks)


def _evaluation_due(parts: Parts, progress: Progress) -> bool:
    if parts.evaluate is None or progress.evaluated == progress.step:
        return False
    return progress.step % parts.evaluate_every == 0 or progress.step == parts.steps


def _evaluated(parts: Parts, progress: Progress) -> EvalRecord:
    assert parts.evaluate is not None
    found = parts.evaluate()
    best = progress.improves(found)
    return EvalRecord(
        progress.step, found.loss, found.accuracy, found.examples, best, dict(found.metrics), found.score
    )


def _rank(found: Evaluation | EvalRecord) -> tuple[float, float]:
    # Journals from before there were other metrics hold the accuracy alone.
    score = found.accuracy if found.score is None else found.score
    return -(score or 0), found.loss


def _stale(parts: Parts, progress: Progress) -> bool:
    return parts.early_stop is not None and progress.stale >= parts.early_stop
