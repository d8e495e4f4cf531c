"""The loop: ask the strategy, ask the oracle, write the journal, move the parameters, yield a record.

A generator over built parts; it knows no profile, no file layout and no server. A caller that stops
iterating cancels the run, at a point where journal and parameters agree.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from steerzo_edge.errors import DivergedError
from steerzo_edge.records import Record, StepRecord, WatchRecord
from steerzo_edge.seeds import step_seeds
from steerzo_edge.training.decisions import PATIENCE, evaluated, tuned, watched
from steerzo_edge.training.hybrid_steps import exact_step
from steerzo_edge.training.moving import move
from steerzo_edge.training.parts import Parts
from steerzo_edge.training.progress import Progress
from steerzo_edge.zo.entry import Entry
from steerzo_edge.zo.oracle import converse


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
        parts: What the run is made of; parameters and rule must be in the state that `progress` describes.
        journal: Given every entry BEFORE the parameters move; must not return before it is durable.
        progress: Where to continue; a new run by default.
        rewind: Takes parameters and rule back to their state after a number of steps; without it, a watcher can
            only change the rate.
        clock: Seconds, for the records.

    Yields:
        Step records; evaluation records at step 0, every `evaluate_every` steps, and at the end; before the first
        step what was found for settings left to "auto"; and the watcher's verdicts.

    Raises:
        DivergedError: If no step had a finite loss for 25 steps in a row.
        CapacityError: From the oracle.
    """
    progress = progress or Progress()
    while True:
        for decide in (evaluated, watched, tuned):
            record = decide(parts, progress, clock)
            if record is None:
                continue
            if isinstance(record, WatchRecord) and record.back_to is not None and rewind is None:
                message = f"{record.message} (but there is no earlier version to go back to)"
                record = replace(record, back_to=None, message=message)
            entry = Entry(record)
            journal(entry)
            progress.add(entry)
            if isinstance(record, WatchRecord) and record.back_to is not None and rewind is not None:
                rewind(record.back_to)
            parts.oracle.follow(entry)
            yield record
        if progress.step >= progress.last_step(parts.steps) or _ended(parts, progress):
            return
        if progress.skipped >= PATIENCE:
            raise DivergedError(f"step {progress.step}: {PATIENCE} steps in a row had no finite loss")
        entry = _next_step(parts, progress, clock)
        journal(entry)
        move(entry, parts)
        parts.oracle.follow(entry)
        parts.blocks.noise.forget()
        progress.add(entry)
        yield entry.record


def _next_step(parts: Parts, progress: Progress, clock: Callable[[], float]) -> Entry:
    """One step up to its journal entry; nothing has moved yet."""
    started = clock()
    step = progress.step
    epsilon, rate = _settings(parts, progress)
    if parts.exact is not None:
        return exact_step(parts, progress, epsilon, rate, lambda: clock() - started)
    block = parts.blocks.of(step)
    dialogue = parts.strategy(epsilon).propose(step_seeds(parts.seed, step), progress.carry)
    estimate, forwards = converse(dialogue, parts.oracle, step, block.index)
    record = StepRecord(
        step=step,
        loss=estimate.loss if math.isfinite(estimate.loss) else None,
        slope=estimate.slope,
        learning_rate=rate * parts.schedule(step) * progress.factor,
        epsilon=epsilon,
        forwards=progress.forwards + forwards,
        tokens=progress.tokens + forwards * parts.batches(step).tokens,
        seconds=clock() - started,
        dropped=estimate.dropped,
        skipped=estimate.skipped,
        rejected=estimate.rejected,
        spread=estimate.spread,
        scale=estimate.scale,
        clipped=estimate.clipped,
    )
    return Entry(record, estimate.gradient, estimate.carry, block.index)


def _settings(parts: Parts, progress: Progress) -> tuple[float, float]:
    """Probe radius and peak rate: as given, or as found."""
    found = progress.tuned
    epsilon = parts.epsilon if parts.epsilon is not None or found is None else found.epsilon
    rate = parts.learning_rate if parts.learning_rate is not None or found is None else found.learning_rate
    assert epsilon is not None
    assert rate is not None
    return epsilon, rate


def _ended(parts: Parts, progress: Progress) -> bool:
    stale = parts.early_stop is not None and progress.stale >= parts.early_stop
    return stale or (bool(progress.verdicts) and progress.verdicts[-1].stop)
