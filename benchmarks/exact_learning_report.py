"""The table and the picture of the runs of `benchmarks.exact_learning`."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.table import Table

mpl.rcParams["svg.hashsalt"] = "steerzo"
MIB = 1 << 20
# Okabe and Ito's palette, which colour-blind readers can tell apart; the markers say the same.
STYLES = {"forward only": ("#0072B2", "o"), "hybrid": ("#E69F00", "s"), "exact": ("#009E73", "D")}
TITLES = {
    "sst2": "SST-2: 2 classes, 16 rows a step",
    "snips": "snips: 7 classes, 16 rows a step",
    "wikisql": "WikiSQL: completions, 8 rows a step",
}
Run = Mapping[str, Any]


def table(found: Mapping[str, Any]) -> Table:
    """Medians over the seeds, a row for each set and way.

    Args:
        found: The content of the file of `benchmarks.exact_learning`.
    """
    shown = Table(
        title=f"{found['base']} in nf4, {found['compute_dtype']}; {found['machine']}; medians of the seeds"
    )
    for column in ("rows", "way", "seeds", "seconds", "steps", "loss", "of seeds", "accuracy", "peak, MiB"):
        shown.add_column(column, justify="right")
    for name, way, runs in _groups(found):
        for place, point in enumerate(runs[0]["points"]):
            own = [run["points"][place] for run in runs if len(run["points"]) > place]
            losses = [each["loss"] for each in own]
            accuracy = "" if point["accuracy"] is None else f"{median(each['accuracy'] for each in own):.3f}"
            values = [f"{median(each['seconds'] for each in own):.0f}", f"{median(e['steps'] for e in own):.0f}"]
            losses_shown = [f"{median(losses):.3f}", f"{min(losses):.3f} to {max(losses):.3f}"]
            peak = f"{median(run['peak'] for run in runs) / MIB:.0f}"
            shown.add_row(name, way, str(len(own)), *values, *losses_shown, accuracy, peak)
    return shown


def draw(found: Mapping[str, Any], path: Path) -> None:
    """Draws the loss over seconds and, below or beside it, over the peak of the process, for each set.

    Args:
        found: As in `table`.
        path: A .png or .svg.
    """
    groups = list(_groups(found))
    names = list(dict.fromkeys(name for name, _, _ in groups))
    alone = len(names) == 1
    figure = Figure(figsize=(9.4, 4.4) if alone else (4.6 * len(names), 7.4), layout="constrained")
    panels = figure.subplots(1, 2, squeeze=False).T if alone else figure.subplots(2, len(names), squeeze=False)
    for column, name in enumerate(names):
        over, peaks = panels[0][column], panels[1][column]
        for _, way, runs in (group for group in groups if group[0] == name):
            _curve(over, way, runs)
            _ends(peaks, way, runs)
        over.set_title(TITLES[name], fontsize=11)
        over.set(xlabel="seconds of steps", xlim=(0, None))
        peaks.set_xlabel("peak memory of the process, MiB")
        peaks.margins(0.18)
    panels[0][0].set_ylabel("loss on test rows, nats")
    panels[1][0].set_ylabel("loss at the end, nats")
    for panel in panels.flat:
        panel.grid(alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"{found['base']} in nf4: median and range of the seeds", fontsize=12)
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    figure.savefig(path, dpi=110)


def _groups(found: Mapping[str, Any]) -> Iterator[tuple[str, str, Sequence[Run]]]:
    for name in TITLES:
        for way in STYLES:
            runs = [run for run in found["runs"] if (run["set"], run["way"]) == (name, way)]
            if runs:
                yield name, way, runs


def _curve(axes: Axes, way: str, runs: Sequence[Run]) -> None:
    color, marker = STYLES[way]
    count = min(len(run["points"]) for run in runs)
    at = [[run["points"][place] for run in runs] for place in range(count)]
    seconds = [median(each["seconds"] for each in points) for points in at]
    losses = [[each["loss"] for each in points] for points in at]
    middle = [median(values) for values in losses]
    axes.plot(seconds, middle, color=color, marker=marker, label=way, linewidth=2)
    low, high = [min(values) for values in losses], [max(values) for values in losses]
    axes.fill_between(seconds, low, high, color=color, alpha=0.15, linewidth=0)


def _ends(axes: Axes, way: str, runs: Sequence[Run]) -> None:
    color, marker = STYLES[way]
    peaks, losses = [run["peak"] / MIB for run in runs], [run["points"][-1]["loss"] for run in runs]
    axes.plot(peaks, losses, marker, color=color, alpha=0.4, markersize=5)
    axes.plot([median(peaks)], [median(losses)], marker, color=color, markersize=11)
    axes.annotate(
        way, (median(peaks), median(losses)), (0, 12), textcoords="offset points", ha="center", fontsize=9
    )
