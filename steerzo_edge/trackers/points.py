"""What trackers are sent: the records of a run as numbers, and its settings as text."""

import json
import math
from collections.abc import Mapping
from typing import Any

from steerzo_edge.records import EvalRecord, Record, StepRecord, TuneRecord
from steerzo_edge.trackers.tracker import Point


def point_of(record: Record) -> Point:
    """A record's finite numbers.

    Returns:
        For a step `train/loss`, `train/slope` (projected gradient, or the gradient's norm), `train/learning_rate`,
        `train/epsilon` (probe radius), `train/forwards`, `train/tokens`, `train/seconds`; for an evaluation
        `eval/loss`, `eval/accuracy` and its metrics; for a search `tune/...`; for a verdict `watch/...`.
    """
    if isinstance(record, StepRecord):
        names = ("loss", "slope", "learning_rate", "epsilon", "forwards", "tokens", "seconds")
        found = {f"train/{name}": getattr(record, name) for name in names}
    elif isinstance(record, EvalRecord):
        found = summary_of(record)
    elif isinstance(record, TuneRecord):
        found = {f"tune/{name}": getattr(record, name) for name in ("epsilon", "learning_rate", "seconds")}
    else:
        back_to = record.step if record.back_to is None else record.back_to
        found = {"watch/rate_factor": record.factor, "watch/back_to": back_to}
    return Point(record.step, _finite(found))


def summary_of(evaluation: EvalRecord) -> dict[str, float]:
    """The numbers of an evaluation, by name."""
    found = {"loss": evaluation.loss, "accuracy": evaluation.accuracy, **evaluation.metrics}
    return _finite({f"eval/{name}": value for name, value in found.items()})


def parameters_of(profile: Mapping[str, Any], **others: Any) -> dict[str, str]:
    """Settings with dotted names, as text.

    Args:
        profile: A profile's document.
        others: Further facts, by name.
    """
    found: dict[str, str] = {}

    def walk(value: Any, name: str) -> None:
        if isinstance(value, Mapping):
            for key, inner in value.items():
                walk(inner, f"{name}.{key}" if name else str(key))
        else:
            found[name] = value if isinstance(value, str) else json.dumps(value)

    walk({**profile, **others}, "")
    return found


def _finite(numbers: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in numbers.items() if value is not None and math.isfinite(value)}
