"""What came out of the runs of a sweep: one table of all, the best first."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from steerzo_edge.sweep.trials import differing

MIB = 1 << 20
VALIDATION_LOSS = "validation_loss"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A run of a sweep, as far as it is.

    Args:
        run: The name of its directory, or the id of its job.
        changes: Its settings, with dotted keys.
        state: "waiting", "running", "succeeded", "failed"; of jobs also their other states.
        step: Finished steps.
        steps: Of the whole run.
        loss: Of the last step, nats per target token; None before it.
        evaluation: The fields of the evaluation of its kept version, or the latest so far; None without any.
        forwards: Forward passes so far.
        seconds: Of its steps and of the search for settings.
        peak_bytes: Most memory of the process while it ran; None if it has not ended.
        adapter: Where its adapter is, or the name by which prompts use it; None without any.
        error: Why it failed.
    """

    run: str
    changes: Mapping[str, Any]
    state: str
    step: int
    steps: int
    loss: float | None = None
    evaluation: Mapping[str, Any] | None = None
    forwards: int = 0
    seconds: float = 0.0
    peak_bytes: int | None = None
    adapter: str | None = None
    error: str | None = None

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics and the loss of its evaluation, by name."""
        found = self.evaluation or {}
        accuracy = found.get("accuracy")  # the only metric of older records
        named = {} if accuracy is None else {"accuracy": accuracy}
        loss = found.get("loss")
        return {**named, **(found.get("metrics") or {}), **({} if loss is None else {VALIDATION_LOSS: loss})}


def table_of(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The table, JSON-ready.

    Args:
        outcomes: Of all runs, in their order.

    Returns:
        "settings": the names of those that differ; "metric": the name of the one that runs are sorted by; "runs": a
        dictionary for each run, the best first and those without a result last; "best": the first that has an
        adapter, or None.
    """
    metric = _metric_name(outcomes)
    sign = 1 if metric == VALIDATION_LOSS else -1

    def place(outcome: Outcome) -> tuple[bool, float, float, float]:
        value = outcome.metrics.get(metric)
        others = (outcome.metrics.get(VALIDATION_LOSS), outcome.loss)
        last = outcome.state == "failed" or (value is None and outcome.loss is None)
        ties = [math.inf if other is None else other for other in others]
        return last, math.inf if value is None else sign * value, ties[0], ties[1]

    keys = differing([outcome.changes for outcome in outcomes])
    runs = [_row(outcome, keys, metric) for outcome in sorted(outcomes, key=place)]
    done = [run for run in runs if run["adapter"] is not None and run["state"] == "succeeded"]
    return {"settings": keys, "metric": metric, "runs": runs, "best": done[0] if done else None}


def cells_of(table: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """The table's heads, and its cells as short texts."""
    metric = table["metric"].replace("_", " ")
    heads = ["run", *table["settings"], "training loss", metric, "forwards", "seconds", "peak MiB", "state"]
    rows = []
    for run in table["runs"]:
        shown = [_short(run["settings"].get(key, "")) for key in table["settings"]]
        peak = "" if run["peak_bytes"] is None else f"{run['peak_bytes'] / MIB:,.0f}"
        numbers = [_short(run["loss"]), _short(run["value"]), f"{run['forwards']:,}", f"{run['seconds']:.1f}", peak]
        state = (
            run["state"] if run["step"] in (0, run["steps"]) else f"{run['state']}, {run['step']}/{run['steps']}"
        )
        rows.append([run["run"], *shown, *numbers, state])
    return heads, rows


def csv_of(table: Mapping[str, Any]) -> str:
    """The table as CSV, with unrounded numbers."""
    out = io.StringIO()
    plain = (
        "loss",
        "value",
        "validation_loss",
        "forwards",
        "seconds",
        "peak_bytes",
        "step",
        "steps",
        "state",
        "adapter",
    )
    names = ["training_loss", table["metric"] if table["metric"] != VALIDATION_LOSS else "metric", *plain[2:]]
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["run", *table["settings"], *names])
    for run in table["runs"]:
        settings = [run["settings"].get(key, "") for key in table["settings"]]
        writer.writerow([run["run"], *settings, *(run[name] for name in plain)])
    return out.getvalue()


def _row(outcome: Outcome, keys: Sequence[str], metric: str) -> dict[str, Any]:
    return {
        "run": outcome.run,
        "settings": {key: outcome.changes[key] for key in keys if key in outcome.changes},
        "state": outcome.state,
        "step": outcome.step,
        "steps": outcome.steps,
        "loss": outcome.loss,
        "value": outcome.metrics.get(metric),
        "validation_loss": outcome.metrics.get(VALIDATION_LOSS),
        "metrics": {name: value for name, value in outcome.metrics.items() if name != VALIDATION_LOSS},
        "forwards": outcome.forwards,
        "seconds": round(outcome.seconds, 2),
        "peak_bytes": outcome.peak_bytes,
        "adapter": outcome.adapter,
        "error": outcome.error,
    }


def _metric_name(outcomes: Sequence[Outcome]) -> str:
    """The metric that evaluations are compared by: the one that is their score in all runs; else the first."""
    evaluated = [outcome for outcome in outcomes if outcome.evaluation is not None]
    scores = [(outcome.metrics, (outcome.evaluation or {}).get("score")) for outcome in evaluated]
    names = list(scores[0][0]) if scores else [VALIDATION_LOSS]
    main = [
        name for name in names if all(score is not None and found.get(name) == score for found, score in scores)
    ]
    return (main or names)[0]


def _short(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
