"""Curves of the validation loss of `benchmarks.quality`: the points that runs share, final losses, costs."""

import math
from collections.abc import Sequence
from typing import Any

Run = dict[str, Any]
EXACT = "exact"


def common_points(runs: Sequence[Run]) -> list[tuple[int, list[float]]]:
    """The steps that all runs have, each with the loss of every run; a run that diverged ends early."""
    curves = [{point[0]: point[2] for point in run["curve"] if point[2] is not None} for run in runs]
    return [
        (step, [curve[step] for curve in curves]) for step in curves[0] if all(step in curve for curve in curves)
    ]


def by_method(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """The runs of each method at the rate and budget that were chosen: those that all its seeds have."""
    grouped: dict[str, dict[Any, list[Run]]] = {}
    for run in runs:
        grouped.setdefault(run["method"], {}).setdefault((run["rate"], run["budget"]), []).append(run)
    return {method: max(alike.values(), key=len) for method, alike in grouped.items()}


def final_loss(run: Run) -> float:
    """The validation loss at the end, in nats; infinite for a run that diverged."""
    return math.inf if run["loss"] is None else float(run["loss"])


def cost_of(run: Run) -> float:
    """Forward passes a step; what tuning took is spread over the steps."""
    steps = int(run["curve"][-1][0])
    return int(run["forwards"]) / steps if steps else 0.0
