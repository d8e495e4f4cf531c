"""A step with exact gradients: of all trained layers, or of the topmost ones with an estimate for those below.

The journal's line of a hybrid step holds the estimate for the layers below, as seeds and weights, and the loss and
the norm of the exact gradient. Its one learning rate is that of the exact part: the estimate is stored times the
ratio of the two rates, so that the line alone says how far it moves the parameters.

An estimate that cannot be made, because losses of probes are not finite, leaves the layers below where they are.
"""

from collections.abc import Callable
from dataclasses import replace

from steerzo_edge.records import StepRecord
from steerzo_edge.seeds import step_seeds
from steerzo_edge.training.parts import Parts
from steerzo_edge.training.progress import Progress
from steerzo_edge.zo.entry import Entry
from steerzo_edge.zo.oracle import converse


def exact_step(
    parts: Parts, progress: Progress, epsilon: float, rate: float, seconds: Callable[[], float]
) -> Entry:
    """Computes the next step's gradient, and the estimate if layers are left for it; nothing moves.

    Args:
        parts: Of the run, with `exact`.
        progress: Where the run is.
        epsilon: Probe radius; not used without probes.
        rate: Peak rate: of the layers below, if there are any, or of the exact part.
        seconds: Since the step began.
    """
    assert parts.exact is not None
    step, below = progress.step, parts.below
    share = parts.schedule(step) * progress.factor
    if below is None:
        return parts.exact.step(progress, rate * share, seconds)
    entry = parts.exact.step(progress, below.exact_rate * share, seconds)
    record = entry.record
    assert isinstance(record, StepRecord)
    if record.skipped:
        return replace(entry, carry=progress.carry)
    block = parts.blocks.of(step)
    dialogue = parts.strategy(epsilon).propose(step_seeds(parts.seed, step), progress.carry)
    with below.loss.along(parts.exact.take_tangents()):
        estimate, forwards = converse(dialogue, parts.oracle, step, block.index)
    record = replace(
        record,
        epsilon=epsilon,
        forwards=record.forwards + forwards,
        tokens=record.tokens + forwards * parts.batches(step).tokens,
        seconds=seconds(),
        dropped=estimate.dropped,
        rejected=estimate.rejected,
        spread=estimate.spread,
    )
    return Entry(record, (rate / below.exact_rate) * estimate.gradient, estimate.carry, block.index)
