"""The oracle answers probes with losses: the only part of a step that runs the model.

It receives small messages only, so it may be in this process or on another machine:

    evaluate(Round(step, block, probes))    which batch and block, and where to measure: seeds, weights and radii
    follow(entry)                           the parameters have moved as this journal entry says

The batch of a step is a function of (seed, step), and a move of the parameters is a journal entry. An oracle
elsewhere needs the journal's header, the entries so far, the dataset and the base, and can answer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from steerzo_edge.zo.direction import Direction
from steerzo_edge.zo.entry import Entry
from steerzo_edge.zo.strategy import Dialogue, Estimate, Probe


@dataclass(frozen=True, slots=True)
class Round:
    """Probes to be evaluated together.

    Args:
        step: The step whose batch they are evaluated on.
        block: Index of the block of parameters that they perturb.
        probes: One round of a strategy, at least one probe.
    """

    step: int
    block: int
    probes: tuple[Probe, ...]

    def as_json(self) -> dict[str, Any]:
        """The round as JSON-ready values: about 30 bytes for each seed of each probe."""
        probes = [[probe.radius, probe.direction.terms] for probe in self.probes]
        return {"step": self.step, "block": self.block, "probes": probes}

    @classmethod
    def of_json(cls, value: Mapping[str, Any]) -> "Round":
        """The round that `as_json` gave."""
        probes = (Probe(Direction.of_json(terms), float(radius)) for radius, terms in value["probes"])
        return cls(int(value["step"]), int(value["block"]), tuple(probes))


class Oracle(Protocol):
    """Evaluates probes."""

    def evaluate(self, round: Round) -> list[float]:
        """The batch loss at parameters + radius * direction, for each probe.

        Args:
            round: The probes, and the step and block they belong to.

        Returns:
            Losses in nats, in the order of the probes; nan or inf where the model gave that.

        Raises:
            CapacityError: If memory does not suffice for a single probe.

        Note:
            The parameters are bitwise untouched afterwards, also when this raises.
        """
        ...

    def follow(self, entry: Entry) -> None:
        """Takes note of a journal entry, which is on the disk and has taken effect in the run.

        Args:
            entry: Every entry of the run from here on, in order. A `StepRecord` moves the parameters (`zo.replay`),
                a `WatchRecord` with `back_to` takes them back. An oracle that shares the run's parameters only
                forgets what it has derived from the old ones.
        """
        ...


def converse(dialogue: Dialogue, oracle: Oracle, step: int, block: int) -> tuple[Estimate, int]:
    """Carries one step's dialogue between a strategy and an oracle.

    Args:
        dialogue: From `Strategy.propose`.
        oracle: Answers its probes.
        step: Whose batch they are evaluated on.
        block: Index of the block that they perturb.

    Returns:
        The estimate, and the number of forward passes it took.
    """
    forwards = 0
    probes = next(dialogue)
    while True:
        losses = oracle.evaluate(Round(step, block, tuple(probes)))
        forwards += len(probes)
        try:
            probes = dialogue.send(losses)
        except StopIteration as end:
            return end.value, forwards
