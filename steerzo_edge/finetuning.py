"""The loop: ask the strategy, ask the oracle, write the journal, move the parameters, say what happened.

A generator of records, made of built parts; it knows no profile, no file layout and no server. Stop iterating
and it is cancelled, at a point where everything is consistent.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from steerzo_edge.data.batches import Batch
from steerzo_edge.errors import DivergedError
from steerzo_edge.evaluation import Evaluation
from steerzo_edge.model.prefix import PrefixStore
from steerzo_edge.model.subset import Subset
from steerzo_edge.records import EvalRecord, Record, StepRecord, TuneRecord, WatchRecord
from steerzo_edge.seeds import derive_seed, step_seeds
from steerzo_edge.zo.blocks import Blocks
from steerzo_edge.zo.journal import Entry
from steerzo_edge.zo.oracle import Oracle, converse
from steerzo_edge.zo.rule import Rule
from steerzo_edge.zo.schedule import Schedule
from steerzo_edge.zo.strategy import Memory, Strategy
from steerzo_edge.zo.tuning import find_radius, find_rate
from steerzo_edge.zo.watcher import Watcher

PATIENCE = 25


@dataclass(frozen=True, slots=True)
class Parts:
    """What a run is made of.

    Args:
        subset: Whose parameters are trained.
        blocks: What the steps perturb in turn; usually one block, which is everything.
        strategy: Decides what to probe, at a given probe radius.
        epsilon: The probe radius; None finds it before the first step.
        oracle: Evaluates probes on the same subset.
        rule: Moves the parameters.
        learning_rate: The peak rate; None finds it before the first step.
        schedule: The share of it that each step has.
        batches: The batch of a step, a pure function of its index.
        seed: Of the run.
        steps: How many.
        evaluate: The parameters' quality on rows that are not trained on, or None.
        evaluate_every: Steps between evaluations; one at the start and one at the end besides.
        early_stop: Evaluations without a new best after which the run ends; None never does.
        prefix: What the oracle and the evaluation share; None where the lowest trained layer is the first.
        watcher: Judges the run at its evaluations; None lets it go on whatever happens.
    """

    subset: Subset
    blocks: Blocks
    strategy: Callable[[float], Strategy]
    epsilon: float | None
    oracle: Oracle
    rule: Rule
    learning_rate: float | None
    schedule: Schedule
    batches: Callable[[int], Batch]
    seed: int
    steps: int
    evaluate: Callable[[], Evaluation] | None = None
    evaluate_every: int = 100
    early_stop: int | None = None
    prefix: PrefixStore | None = None
    watcher: Watcher | None = None


@dataclass(slots=True)
class Progress:
    """How far a run is: what the journal's lines add up to.

    Args:
        step: Finished steps.
        forwards: Forward passes spent.
        tokens: Real tokens put through the model.
        memory: What the strategy is told next.
        evaluations: All so far.
        verdicts: The watcher's, so far.
        tuned: What was found for settings left to "auto".
        best: The best evaluation so far.
        stale: Evaluations since then.
        skipped: Steps skipped in a row.
    """

    step: int = 0
    forwards: int = 0
    tokens: int = 0
    memory: Memory = field(default_factory=dict)
    evaluations: list[EvalRecord] = field(default_factory=list)
    verdicts: list[WatchRecord] = field(default_factory=list)
    tuned: TuneRecord | None = None
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
        match record:
            case StepRecord():
                self.step, self.forwards, self.tokens = record.step + 1, record.forwards, record.tokens
                self.memory = entry.memory
                self.skipped = self.skipped + 1 if record.skipped else 0
            case EvalRecord():
                self.evaluations.append(record)
                self.best, self.stale = (record, 0) if record.best else (self.best, self.stale + 1)
            case TuneRecord():
                self.tuned = record
                self.forwards += record.forwards
                self.tokens += record.tokens
            case WatchRecord():
                self.verdicts.append(record)
                self.stale = 0

    @property
    def factor(self) -> float:
        """What the watcher has multiplied the learning rate by."""
        return math.prod(verdict.factor for verdict in self.verdicts)

    def improves(self, found: Evaluation) -> bool:
        """Whether an evaluation is the best so far: by its score where there is one, then by loss."""
        return self.best is None or _rank(found) < _rank(self.best)


def finetune(
    parts: Parts,
    *,
    journal: Callable[[Entry], None] = lambda entry: None,
    progress: Progress | None = None,
    rewind: Callable[[int], None] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[Record]:
    """Runs until the last step, yielding a record for each step, each evaluation and each decision.

    Args:
        parts: What the run is made of; parameters and rule must stand where `progress` says.
        journal: Given every line BEFORE the parameters move; must not return before it is durable.
        progress: Where to go on; a new run by default.
        rewind: Takes parameters and rule back to where they were after so many steps; without it, a watcher can
            only change the rate.
        clock: Seconds, for the records.

    Yields:
        Step records, evaluation records at step 0, every so many steps, and at the end; before the first step what
        was found for settings left to "auto"; and the watcher's verdicts.

    Raises:
        DivergedError: If no step had a finite loss for 25 steps in a row.
        CapacityError: From the oracle.
    """
    progress = progress or Progress()
    while True:
        for decide in (_evaluated, _watched, _tuned):
            record = decide(parts, progress, clock)
            if record is None:
                continue
            if isinstance(record, WatchRecord) and rewind is None:
                record = replace(record, back_to=None)
            entry = Entry(record)
            journal(entry)
            progress.add(entry)
            if isinstance(record, WatchRecord) and record.back_to is not None and rewind is not None:
                rewind(record.back_to)
            yield record
        if progress.step >= parts.steps or _ended(parts, progress):
            return
        entry = _stepped(parts, progress, clock)
        journal(entry)
        apply(entry, parts.subset, parts.rule, parts.blocks)
        parts.blocks.noise.forget()
        progress.add(entry)
        yield entry.record
        if progress.skipped >= PATIENCE:
            reason = getattr(entry.record, "skipped", None)
            raise DivergedError(f"step {entry.record.step}: {PATIENCE} steps in a row were skipped ({reason})")


def _stepped(parts: Parts, progress: Progress, clock: Callable[[], float]) -> Entry:
    """One step up to its line in the journal; nothing has moved yet."""
    started = clock()
    step = progress.step
    epsilon, rate = _settings(parts, progress)
    batch, block = parts.batches(step), parts.blocks.of(step)
    dialogue = parts.strategy(epsilon).propose(step_seeds(parts.seed, step), progress.memory)
    estimate, forwards = converse(dialogue, parts.oracle, batch, block)
    record = StepRecord(
        step=step,
        loss=estimate.loss if math.isfinite(estimate.loss) else None,
        slope=estimate.slope,
        learning_rate=rate * parts.schedule(step) * progress.factor,
        epsilon=epsilon,
        forwards=progress.forwards + forwards,
        tokens=progress.tokens + forwards * batch.tokens,
        seconds=clock() - started,
        dropped=estimate.dropped,
        skipped=estimate.skipped,
        rejected=estimate.rejected,
        spread=estimate.spread,
        scale=estimate.scale,
        clipped=estimate.clipped,
    )
    return Entry(record, estimate.gradient, estimate.memory, block.index)


def _settings(parts: Parts, progress: Progress) -> tuple[float, float]:
    """Probe radius and peak rate: as given, or as found."""
    found = progress.tuned
    epsilon = parts.epsilon if parts.epsilon is not None or found is None else found.epsilon
    rate = parts.learning_rate if parts.learning_rate is not None or found is None else found.learning_rate
    assert epsilon is not None
    assert rate is not None
    return epsilon, rate


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


def _evaluated(parts: Parts, progress: Progress, clock: Callable[[], float]) -> EvalRecord | None:
    """An evaluation, if it is time for one."""
    if parts.evaluate is None or _judged(progress.evaluations, progress.step):
        return None
    if progress.step % parts.evaluate_every and progress.step != parts.steps:
        return None
    found = parts.evaluate()
    best = progress.improves(found)
    return EvalRecord(
        progress.step, found.loss, found.accuracy, found.examples, best, dict(found.metrics), found.score
    )


def _rank(found: Evaluation | EvalRecord) -> tuple[float, float]:
    # Journals from before there were other metrics hold the accuracy alone.
    score = found.accuracy if found.score is None else found.score
    return -(score or 0), found.loss


def _watched(parts: Parts, progress: Progress, clock: Callable[[], float]) -> WatchRecord | None:
    """The watcher's verdict on the evaluation that has just been made."""
    evaluated = _judged(progress.evaluations, progress.step)
    if parts.watcher is None or not evaluated or _judged(progress.verdicts, progress.step):
        return None
    if progress.step >= parts.steps:
        return None
    return parts.watcher.judge(progress.evaluations, progress.verdicts, parts.schedule(progress.step))


def _judged(records: Sequence[EvalRecord] | Sequence[WatchRecord], step: int) -> bool:
    return bool(records) and records[-1].step == step


def _tuned(parts: Parts, progress: Progress, clock: Callable[[], float]) -> TuneRecord | None:
    """What is left to "auto", found before the first step."""
    if progress.tuned is not None or (parts.epsilon is not None and parts.learning_rate is not None):
        return None
    started = clock()
    forwards, tokens, noise, said = 0, 0, None, []
    epsilon, rate = parts.epsilon, parts.learning_rate
    seed = derive_seed("tune", parts.seed)
    if epsilon is None:
        radius = find_radius(parts.oracle, parts.batches(0), parts.blocks.of(0), step_seeds(seed, 0))
        epsilon, noise = radius.epsilon, radius.noise
        forwards, tokens = radius.forwards, radius.tokens
        said.append(f"probe radius {epsilon:.2g}: slopes agree within {radius.disagreement:.0%} with larger ones")
    if rate is None:
        found = find_rate(
            parts.strategy(epsilon),
            parts.oracle,
            parts.batches,
            parts.blocks.of,
            lambda step: step_seeds(seed, step + 1),
            travel=parts.schedule.travel,
            gain=parts.rule.reach,
        )
        rate, forwards, tokens = found.learning_rate, forwards + found.forwards, tokens + found.tokens
        said.append(
            f"learning rate {rate:.2g}: single steps help up to a distance of {found.distance:.2g}, which the "
            f"random walk of {parts.steps} steps may come to"
        )
    parts.blocks.noise.forget()
    message = f"{'; '.join(said)} ({forwards} forwards)"
    return TuneRecord(0, epsilon, rate, noise, forwards, tokens, clock() - started, message)


def _ended(parts: Parts, progress: Progress) -> bool:
    stale = parts.early_stop is not None and progress.stale >= parts.early_stop
    return stale or (bool(progress.verdicts) and progress.verdicts[-1].stop)


def lineage(entries: Sequence[Entry], step: int) -> list[Entry]:
    """The step lines that lead to where the parameters stand after `step` steps: without those that a watcher's
    verdict has taken back.
    """
    kept: list[Entry] = []
    for entry in entries:
        record = entry.record
        if isinstance(record, StepRecord) and record.step < step:
            kept.append(entry)
        elif isinstance(record, WatchRecord) and record.back_to is not None and record.step <= step:
            back_to = record.back_to
            kept = [old for old in kept if old.record.step < back_to]
    return kept
