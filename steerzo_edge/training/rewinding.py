"""Brings parameters and rule to their state after some step: from a saved version, then by replay.

start, snapshot or best   ->   the entries that lead from there to the step   ->   the same bits as after the step

Entries of a zeroth-order run hold what moved the parameters. Those of a run with exact gradients do not: there
every step since the saved version is computed again, which takes as long as it took.
"""

from collections.abc import Callable, Iterable, Sequence

from torch import Tensor

from steerzo_edge.records import WatchRecord
from steerzo_edge.training.moving import move
from steerzo_edge.training.parts import Parts
from steerzo_edge.training.progress import lineage
from steerzo_edge.zo.entry import Entry

# Step and tensors ("parameters" and "rule.*") of a saved version.
Version = tuple[int, dict[str, Tensor]]


def caught_up(
    parts: Parts,
    entries: Iterable[Entry],
    step: int,
    versions: Iterable[Callable[[], Version | None]] = (),
    verdicts: Sequence[WatchRecord] | None = None,
) -> None:
    """Moves parameters and rule from the start of a run to their state after `step` steps.

    Args:
        parts: Freshly built: parameters and rule are as at the start of the run.
        entries: Of the journal. A verdict that rewinds changes the state after the step at which it was made: for
            the state before the verdict, pass only the entries before it.
        step: Finished steps.
        versions: Read saved versions; each is used if it lies on the way to `step` and saves more replaying.
        verdicts: The watcher's verdicts among the entries; None reads all entries once more to find them.
    """
    if verdicts is None:
        entries = list(entries)
        verdicts = [entry.record for entry in entries if isinstance(entry.record, WatchRecord)]
    start = 0
    for read in versions:
        found = read()
        if found is not None and start < found[0] <= step and not _rewound_past(found[0], step, verdicts):
            start, tensors = found
            put_version(parts, tensors)
    for entry in lineage(entries, step, start):
        move(entry, parts)


def put_version(parts: Parts, tensors: dict[str, Tensor]) -> None:
    """Takes parameters and the rule's state from a saved version."""
    parts.subset.parameters.copy_(tensors["parameters"])
    state = {key.removeprefix("rule."): tensor for key, tensor in tensors.items() if key.startswith("rule.")}
    parts.rule.restore(state)


def _rewound_past(saved: int, step: int, verdicts: Sequence[WatchRecord]) -> bool:
    """Whether a verdict rewound the run, on its way to `step`, to a step before the version saved after `saved`."""
    return any(v.back_to is not None and v.back_to < saved <= v.step <= step for v in verdicts)
