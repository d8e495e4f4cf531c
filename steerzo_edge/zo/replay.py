"""Moves parameters as journal entries say: by the noise of their seeds, without a forward pass."""

from collections.abc import Iterable

from steerzo_edge.model.subset import Subset
from steerzo_edge.records import StepRecord
from steerzo_edge.zo.blocks import Blocks
from steerzo_edge.zo.entry import Entry
from steerzo_edge.zo.rule import Rule


def apply(entry: Entry, subset: Subset, rule: Rule, blocks: Blocks) -> None:
    """Moves the parameters as one entry says. Evaluations, decisions and skipped steps move nothing.

    Args:
        entry: One line of the journal.
        subset: Holds the parameters; moved in place.
        rule: Moves them; its state advances with them.
        blocks: Say which segments of the parameters the step was about, and where its noise comes from.

    Note:
        A watcher's decision to go back is not applied here: see `training.rewinding`.
    """
    if not isinstance(entry.record, StepRecord) or entry.record.skipped:
        return
    noise = blocks.noise
    gradient = (
        (noise.segments[index], entry.gradient.materialize(noise, index))
        for index in blocks.blocks[entry.block].segments
    )
    rule.step(subset.parameters, gradient, entry.record.learning_rate)


def replay(entries: Iterable[Entry], subset: Subset, rule: Rule, blocks: Blocks) -> None:
    """Applies entries, in order, to parameters that are in the state before the first of them."""
    for entry in entries:
        apply(entry, subset, rule, blocks)
