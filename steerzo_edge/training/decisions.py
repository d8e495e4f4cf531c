"""Decisions between steps: evaluate, let the watcher judge, find the values of settings left to "auto".

Each returns a record or None, and depends on parts and progress alone, so a resumed run decides the same.
"""

from collections.abc import Callable, Sequence

from steerzo_edge.records import EvalRecord, TuneRecord, WatchRecord
from steerzo_edge.seeds import derive_seed, step_seeds
from steerzo_edge.training.parts import Parts
from steerzo_edge.training.progress import Progress
from steerzo_edge.zo.tuning import find_radius, find_rate

Clock = Callable[[], float]
# Steps in a row without a finite loss after which the run is judged, and then ended.
PATIENCE = 25


def evaluated(parts: Parts, progress: Progress, clock: Clock) -> EvalRecord | None:
    """An evaluation, if one is due."""
    if parts.evaluate is None or _judged(progress.evaluations, progress.step):
        return None
    if progress.step % parts.evaluate_every and progress.step != progress.last_step(parts.steps):
        return None
    found = parts.evaluate()
    best = progress.improves(found)
    return EvalRecord(
        progress.step, found.loss, found.accuracy, found.examples, best, dict(found.metrics), found.score
    )


def watched(parts: Parts, progress: Progress, clock: Clock) -> WatchRecord | None:
    """The watcher's verdict on the evaluation that has just been made."""
    if (
        parts.watcher is None
        or progress.step >= progress.last_step(parts.steps)
        or _judged(progress.verdicts, progress.step)
    ):
        return None
    if progress.skipped >= PATIENCE:
        return parts.watcher.rescue(progress.step, progress.evaluations, progress.verdicts, progress.skipped)
    if not _judged(progress.evaluations, progress.step):
        return None
    return parts.watcher.judge(progress.evaluations, progress.verdicts, parts.schedule(progress.step))


def _judged(records: Sequence[EvalRecord] | Sequence[WatchRecord], step: int) -> bool:
    return bool(records) and records[-1].step == step


def tuned(parts: Parts, progress: Progress, clock: Clock) -> TuneRecord | None:
    """The values of settings left to "auto", found before the first step."""
    if progress.tuned is not None or (parts.epsilon is not None and parts.learning_rate is not None):
        return None
    started = clock()
    forwards, tokens, noise, findings = 0, 0, None, []
    epsilon, rate = parts.epsilon, parts.learning_rate
    seed = derive_seed("tune", parts.seed)
    if epsilon is None:
        block, size = parts.blocks.of(0).index, parts.batches(0).tokens
        radius = find_radius(parts.oracle, step_seeds(seed, 0), block=block, tokens=size)
        epsilon, noise = radius.epsilon, radius.noise
        forwards, tokens = radius.forwards, radius.tokens
        findings.append(f"probe radius {epsilon:.2g} ({_agreement(radius.disagreement)})")
    if rate is None:
        found = find_rate(
            parts.strategy(epsilon),
            parts.oracle,
            lambda step: step_seeds(seed, step + 1),
            blocks=lambda step: parts.blocks.of(step).index,
            tokens=lambda step: parts.batches(step).tokens,
            rms_sum=parts.schedule.rms_sum,
            effective_step=parts.probe_rule.effective_step,
        )
        rate = found.learning_rate * parts.rate_factor
        forwards, tokens = forwards + found.forwards, tokens + found.tokens
        findings.append(
            f"learning rate {rate:.2g}: single steps help up to a distance of {found.distance:.2g}, which the "
            f"random walk of {parts.steps} steps is to reach{_multiplied(parts.rate_factor)}"
        )
    parts.blocks.noise.forget()
    message = f"{'; '.join(findings)} ({forwards} forwards)"
    return TuneRecord(0, epsilon, rate, noise, forwards, tokens, clock() - started, message)


def _multiplied(factor: float) -> str:
    return "" if factor == 1 else f", times {factor:g} as asked"


def _agreement(disagreement: float) -> str:
    if not disagreement < 1:
        return "slopes at different radii disagree: losses hardly differ, or are mostly noise"
    return f"slopes there and at the next larger radius differ by {disagreement:.0%}"
