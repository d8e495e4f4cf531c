"""Pictures of `benchmarks.serving`: gaps and throughput against prompts at once, and against adapters."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

mpl.rcParams["svg.hashsalt"] = "steerzo"
IDLE, BUSY, OTHER = "#2a6fbb", "#d9822b", "#777777"
Rows = Sequence[Mapping[str, Any]]


def draw(found: Mapping[str, Any], path: Path) -> None:
    """Draws a row of three panels for each base.

    Args:
        found: By base: our rows, and those of other libraries.
        path: A .png or .svg.
    """
    figure = Figure(figsize=(13, 3.9 * len(found)), layout="constrained")
    panels = figure.subplots(len(found), 3, squeeze=False)
    for (gaps, rates, adapters), (name, one) in zip(panels, found.items(), strict=True):
        rows = one["rows"]
        _gaps(gaps, [row for row in rows if row["adapters"] == min(row["concurrency"], 8)])
        gaps.set_title(f"{name}: gap between tokens")
        _rates(rates, [row for row in rows if row["adapters"] == min(row["concurrency"], 8)], "concurrency")
        for color, marker, prompts in ((OTHER, "s", 1), (OTHER, "D", 8)):
            _mark(rates, one["others_tokens_per_s"], color, marker, prompts)
        rates.set_title("tokens a second of all prompts")
        rates.set_xlabel("prompts at once")
        _rates(adapters, [row for row in rows if row["concurrency"] == max(8, row["adapters"])], "adapters")
        adapters.set_title("tokens a second, at least 8 prompts")
        adapters.set_xlabel("different adapters")
    for axes in panels.flat:
        axes.set_ylim(bottom=0)
    figure.savefig(path, dpi=110)


def _gaps(axes: Axes, rows: Rows) -> None:
    for training, color, label in ((False, IDLE, "idle"), (True, BUSY, "while a job trains")):
        some = [row for row in rows if row["training"] == training]
        counts = [row["concurrency"] for row in some]
        middle, high = ([1000 * row[f"gap_{name}_s"] for row in some] for name in ("p50", "p95"))
        axes.plot(counts, middle, "o-", color=color, label=f"{label}: median and p95")
        axes.plot(counts, high, "o--", color=color, markerfacecolor="white")
    _frame(axes, rows, "concurrency")
    axes.set_xlabel("prompts at once")
    axes.set_ylabel("ms")


def _rates(axes: Axes, rows: Rows, over: str) -> None:
    for training, color, label in ((False, IDLE, "idle"), (True, BUSY, "while a job trains")):
        some = sorted((row for row in rows if row["training"] == training), key=lambda row: int(row[over]))
        axes.plot(
            [row[over] for row in some], [row["tokens_per_s"] for row in some], "o-", color=color, label=label
        )
    _frame(axes, rows, over)


def _mark(axes: Axes, others: Mapping[str, float], color: str, marker: str, prompts: int) -> None:
    """Marks other libraries, at one prompt or at eight: transformers (without adapters) open, peft filled."""
    for name, rate in others.items():
        if ("8" in name) == (prompts == 8):
            fill = color if name.startswith("peft") else "white"
            label = name if prompts == 8 else None
            axes.plot([prompts], [rate], marker, color=color, markerfacecolor=fill, linestyle="", label=label)
    axes.legend(fontsize=8)


def _frame(axes: Axes, rows: Rows, over: str) -> None:
    ticks = sorted({int(row[over]) for row in rows})
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [str(tick) for tick in ticks])

    axes.grid(alpha=0.25)
    axes.legend(fontsize=8)
