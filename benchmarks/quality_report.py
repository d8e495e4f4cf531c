"""Tables, pictures and quality.json from the runs of `benchmarks.quality`.

quality.json               every run; `default`; `summary`, a row for each dataset and method
quality_forwards.png       validation loss over forward passes, a panel for each dataset
quality_seconds.png        the same over seconds on the machine of the runs
quality_equal_steps.png    the papers' comparison at equal steps, and ours at equal forward passes
"""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib as mpl
from rich.console import Console
from rich.table import Table

from benchmarks.quality_curves import EXACT, Run, by_method, common_points, cost_of, final_loss
from benchmarks.quality_pictures import SHOWN, draw_curves, draw_equal_steps

INTRODUCTION = """# Methods at equal forward passes

Written by `python -m benchmarks.quality --report`; docs/benchmarks.md says what is compared, and how.
Medians over the seeds, in brackets the lowest and the highest. "Ratio": forwards until the loss that two-point ends
with, over the budget; "to best": until the lowest median loss that two-point has anywhere. "Auto": nothing set by
hand, "gap": its loss over that of the tuned rate. The default is {default}."""
REFERENCE = "two-point"
COLUMNS = (
    "dataset", "method", "rate", "loss", "spread", "accuracy", "test", "ratio", "to best", "auto loss", "auto gap",
)  # fmt: skip


def report(out: Path, default: str) -> None:
    """Writes everything and prints the summary.

    Args:
        out: Directory of the results; runs are in its folder "quality".
        default: Name of the method that profiles use.
    """
    runs = [
        json.loads(line)
        for path in sorted((out / "quality").glob("*.jsonl"))
        for line in path.read_text().splitlines()
    ]
    datasets = list(dict.fromkeys(run["dataset"] for run in runs))
    summary = [row for name in datasets for row in _summary([run for run in runs if run["dataset"] == name])]
    overall = _overall(summary)
    body = {"default": default, "overall": overall, "summary": summary, "runs": runs}
    (out / "quality.json").write_text(json.dumps(body) + "\n", encoding="utf-8")
    (out / "quality.md").write_text(_markdown(summary, overall, default), encoding="utf-8")
    console = Console(width=150)
    console.print(_table(summary))
    for method, ratio in overall.items():
        console.print(f"{method:28} median ratio over datasets {ratio}")
    mpl.use("agg")
    seconds = {run["dataset"]: run["seconds"] for run in runs if run["kind"] == "seconds"}
    shown = [*SHOWN, default]
    draw_curves(
        out / "quality_forwards.png", runs, datasets, shown, lambda run, step: step * cost_of(run), "forward passes"
    )
    timed = [name for name in datasets if name in seconds]
    draw_curves(
        out / "quality_seconds.png",
        runs,
        timed,
        shown,
        lambda run, step: step * seconds[run["dataset"]][run["method"]],
        "seconds",
    )
    draw_equal_steps(out / "quality_equal_steps.png", runs, default)


def _summary(runs: Sequence[Run]) -> Iterator[dict[str, Any]]:
    """Rows of the summary for one dataset, the reference first."""
    tuned = by_method([run for run in runs if run["kind"] == "tuned"])
    auto = by_method([run for run in runs if run["kind"] == "auto"])
    if REFERENCE not in tuned:
        return
    aim = median(final_loss(run) for run in tuned[REFERENCE])
    best = _best(tuned[REFERENCE])
    for method, own in tuned.items():
        row = {"dataset": own[0]["dataset"], "method": method, "rate": own[0]["rate"], "seeds": len(own)}
        row |= _spread(own) | {"budget": own[0]["budget"]}
        reached = [_forwards_to(run, aim) / own[0]["budget"] for run in own]
        row["forwards_ratio_to_two_point"] = _number(median(reached))
        row["forwards_ratios"] = [_number(ratio) for ratio in reached]
        row["forwards_ratio_to_best"] = _number(median(_forwards_to(run, best) / run["budget"] for run in own))
        found = auto.get(method)
        row["auto"] = None if found is None else _spread(found)
        row["auto_gap"] = None if found is None else _gap(own, found)
        yield row
    exact = [run for run in runs if run["kind"] == EXACT]
    if exact:
        best = min((run for run in exact if run["seed"] == 0), key=final_loss)["rate"]
        own = [run for run in exact if run["rate"] == best]
        yield {"dataset": own[0]["dataset"], "method": own[0]["method"], "rate": best, "seeds": len(own)} | _spread(
            own
        )


def _best(runs: Sequence[Run]) -> float:
    """The lowest median loss at any step: some runs are better in the middle than at their end."""
    return float(min((median(losses) for _, losses in common_points(runs)), default=math.inf))


def _spread(runs: Sequence[Run]) -> dict[str, Any]:
    losses = sorted(final_loss(run) for run in runs)
    accuracies = sorted(run["accuracy"] or 0.0 for run in runs)
    tests = sorted((run.get("test") or {}).get("accuracy") or 0.0 for run in runs)
    return {
        "loss": _number(median(losses)),
        "loss_spread": [_number(losses[0]), _number(losses[-1])],
        "accuracy": median(accuracies),
        "accuracy_spread": [accuracies[0], accuracies[-1]],
        "test_accuracy": median(tests),
    }


def _gap(tuned: Sequence[Run], auto: Sequence[Run]) -> float | None:
    """How much worse the median validation loss is without a setting by hand, relative; below 0 is better."""
    seeds = {run["seed"] for run in auto}
    ours = median(final_loss(run) for run in auto)
    theirs = median(final_loss(run) for run in tuned if run["seed"] in seeds)
    return _number(ours / theirs - 1)


def _forwards_to(run: Run, aim: float) -> float:
    """Forward passes until the curve first reaches a loss, between its points by a line; infinite if never."""
    before: tuple[float, float] | None = None
    for step, _, loss, _ in run["curve"]:
        if loss is None:
            continue
        forwards = step * cost_of(run)
        if loss <= aim:
            if before is None or before[1] <= loss:
                return float(forwards)
            share = (before[1] - aim) / (before[1] - loss)
            return float(before[0] + share * (forwards - before[0]))
        before = forwards, loss
    return math.inf


def _number(value: float) -> float | None:
    return round(value, 5) if math.isfinite(value) else None


def _overall(summary: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """Median over the datasets of each method's ratio; one that never got there counts as infinite."""
    ratios: dict[str, list[float]] = {}
    for row in summary:
        if "forwards_ratio_to_two_point" in row:
            found = row["forwards_ratio_to_two_point"]
            ratios.setdefault(row["method"], []).append(math.inf if found is None else found)
    return {method: _number(median(found)) for method, found in ratios.items()}


def _table(summary: Sequence[dict[str, Any]]) -> Table:
    table = Table(title="At equal forward passes, each method at its best rate")
    for name in COLUMNS:
        table.add_column(name, justify="left" if name in ("dataset", "method") else "right")
    for row in summary:
        auto = row.get("auto")
        table.add_row(
            row["dataset"],
            row["method"],
            f"{row['rate']:.4g}",
            _shown(row["loss"]),
            " - ".join(_shown(value) for value in row["loss_spread"]),
            f"{row['accuracy']:.3f}",
            f"{row['test_accuracy']:.3f}",
            _shown(row.get("forwards_ratio_to_two_point")) if "budget" in row else "",
            _shown(row.get("forwards_ratio_to_best")) if "budget" in row else "",
            "" if auto is None else _shown(auto["loss"]),
            "" if row.get("auto_gap") is None else f"{row['auto_gap']:+.1%}",
        )
    return table


def _markdown(summary: Sequence[dict[str, Any]], overall: dict[str, float | None], default: str) -> str:
    lines = [INTRODUCTION.format(default=default)]
    for name in dict.fromkeys(row["dataset"] for row in summary):
        lines += ["", f"## {name}", "", "| method | rate | loss | accuracy | test | ratio | to best | auto | gap |"]
        lines.append("| --- " + "| ---: " * 8 + "|")
        for row in (row for row in summary if row["dataset"] == name):
            auto = row.get("auto")
            spread = " - ".join(_shown(value) for value in row["loss_spread"])
            ratios = ["", ""]
            if "budget" in row:
                ratios = [_shown(row["forwards_ratio_to_two_point"]), _shown(row["forwards_ratio_to_best"])]
            cells = [row["method"], f"{row['rate']:.3g}", f"{_shown(row['loss'])} ({spread})"]
            cells += [f"{row['accuracy']:.3f}", f"{row['test_accuracy']:.3f}", *ratios]
            cells += ["" if auto is None else _shown(auto["loss"])]
            cells += ["" if row.get("auto_gap") is None else f"{row['auto_gap']:+.1%}"]
            lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "## Over the datasets", "", "| method | median ratio |", "| --- | ---: |"]
    lines += [f"| {method} | {_shown(ratio)} |" for method, ratio in overall.items()]
    return "\n".join(lines) + "\n"


def _shown(value: float | None) -> str:
    return "never" if value is None else f"{value:.3f}"
