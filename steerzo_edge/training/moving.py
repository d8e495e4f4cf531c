"""Moves the parameters as one journal entry says, with whichever method the run has."""

from steerzo_edge.records import StepRecord
from steerzo_edge.training.parts import Parts
from steerzo_edge.zo.entry import Entry
from steerzo_edge.zo.replay import apply


def move(entry: Entry, parts: Parts) -> None:
    """Moves parameters and rule. Evaluations, decisions and skipped steps move nothing.

    Args:
        entry: One line of the journal; parameters and rule are in the state before it.
        parts: Of the run.
    """
    if parts.exact is not None and isinstance(entry.record, StepRecord):
        parts.exact.apply(entry.record)  # the gradient is that of the parameters before either of the two moves
    if parts.exact is None or parts.below is not None:
        apply(entry, parts.subset, parts.probe_rule, parts.blocks)
