"""One line of the journal as a value, and the same as JSON: the message that moves the parameters of every copy.

A step's entry holds the gradient estimate as seeds and weights, so it is 100 to 300 bytes however many parameters
are trained.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from steerzo_edge.records import EvalRecord, Record, StepRecord, TuneRecord, WatchRecord
from steerzo_edge.zo.direction import Direction
from steerzo_edge.zo.strategy import Carry


@dataclass(frozen=True, slots=True)
class Entry:
    """One line.

    Args:
        record: The record that the run yields for it.
        gradient: What the rule was given; empty for evaluations, decisions and skipped steps.
        carry: What the strategy is given at its next step.
        block: Index of the block that was perturbed.
    """

    record: Record
    gradient: Direction = field(default_factory=Direction)
    carry: Carry = field(default_factory=dict)
    block: int = 0

    def as_json(self) -> dict[str, Any]:
        """The entry as JSON-ready values. The key `memory` holds `carry`: journals are older than the name."""
        line = {"kind": self.record.kind, **self.record.as_dict()}
        if isinstance(self.record, StepRecord):
            line |= {"block": self.block, "gradient": self.gradient.terms, "memory": dict(self.carry)}
        return line

    @classmethod
    def of_json(cls, value: Mapping[str, Any]) -> "Entry":
        """The entry that `as_json` gave.

        Raises:
            KeyError: If something is missing.
            TypeError: If something is unknown.
        """
        line = dict(value)
        kind = line.pop("kind")
        for record in (EvalRecord, TuneRecord, WatchRecord):
            if kind == record.kind:
                return cls(record(**line))
        if kind != StepRecord.kind:
            raise TypeError(f"a line of kind {kind!r}")
        gradient = Direction.of_json(line.pop("gradient"))
        carry, block = line.pop("memory"), line.pop("block")
        return cls(StepRecord(**line), gradient, carry, block)
