"""Measures what a step costs as one setting grows: pool, length of rows, depth of the subset, rows in a batch.

    python -m benchmarks.cost_curves [--json FILE] [--plot FILE]

Random tokens, two options of one token each, the bundled base in nf4. All points of a curve take turns in one run.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from benchmarks.machine import description, timed
from benchmarks.real_shapes import random_rows
from benchmarks.workloads import fill_prefix
from steerzo_edge.assemble import assemble
from steerzo_edge.model.base import Base
from steerzo_edge.model.layers import layer_count
from steerzo_edge.model.load import load_base
from steerzo_edge.run_data import Data
from steerzo_edge.settings.profile import resolve
from steerzo_edge.training.loop import finetune

USUAL = {"pool": 8, "tokens": 64, "layers": None, "rows": 16}
NAMES = {
    "pool": "probes a step (M)",
    "tokens": "tokens a row",
    "layers": "trained layers, from the top",
    "rows": "rows a step",
}
mpl.rcParams["svg.hashsalt"] = "steerzo"


def main() -> None:
    """Measures, prints and draws."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="bundled")
    parser.add_argument("--steps", type=int, default=10, help="counted steps of each point, after two warm-ups")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path, help="a .png or .svg")
    options = parser.parse_args()
    base = load_base(options.base)
    console = Console(width=100)
    console.print(f"{description(base.device)}; base {base.name} in {base.quantization}")
    depth = layer_count(base.model.config)
    points = {
        "pool": [2, 4, 8, 16, 32],
        "tokens": [16, 32, 64, 128, 256, 512],
        "layers": [n for n in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32) if n < depth] + [depth],
        "rows": [1, 2, 4, 8, 16, 32, 64],
    }
    curves = {name: _curve(base, name, values, options.steps) for name, values in points.items()}
    for name, curve in curves.items():
        table = Table(title=NAMES[name])
        for column in (name, "seconds a step", "fastest", "slowest", "tokens/s"):
            table.add_column(column, justify="right")
        for value, point in curve.items():
            times = (median(point["seconds"]), min(point["seconds"]), max(point["seconds"]))
            table.add_row(str(value), *(f"{t:.4f}" for t in times), f"{point['tokens'] / times[0]:,.0f}")
        console.print(table)
    if options.json is not None:
        document = {"machine": description(base.device), "base": base.name, "usual": USUAL, "curves": curves}
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    if options.plot is not None:
        _draw(
            curves,
            options.plot,
            f"One step of all-losses({USUAL['pool']}), {base.name} base in nf4, {description(base.device)}",
        )


def _curve(base: Base, name: str, values: list[int], steps: int) -> dict[int, dict[str, Any]]:
    runs = {value: _steps(base, {**USUAL, name: value}) for value in values}
    seconds: dict[int, list[float]] = {value: [] for value in values}
    for _ in range(steps + 2):
        for value, run in runs.items():
            seconds[value].append(next(run))
    return {value: {"seconds": seconds[value][2:], "tokens": _tokens({**USUAL, name: value})} for value in values}


def _tokens(setting: dict[str, Any]) -> int:
    return int(setting["pool"] * setting["tokens"] * setting["rows"])


def _steps(base: Base, setting: dict[str, Any]) -> Iterator[float]:
    profile = resolve(
        {
            "subset": {"kind": "lora", "rank": 8, "last_layers": setting["layers"]},
            "method": {"kind": "all-losses", "pool": setting["pool"], "epsilon": 0.01},
            "batch": {"examples": setting["rows"]},
            "steps": 1_000_000,
        }
    )
    data = random_rows(setting["tokens"], 128)
    parts = assemble(base, profile, Data(data, None), seed=0)
    fill_prefix(parts, 128, setting["rows"])
    steps = finetune(parts)
    while True:
        yield timed(partial(next, steps), base.device)[0]


def _draw(curves: dict[str, dict[int, dict[str, Any]]], path: Path, title: str) -> None:
    figure = Figure(figsize=(11, 7.5), layout="constrained")
    figure.suptitle(title)
    for axes, (name, curve) in zip(figure.subplots(2, 2).flat, curves.items(), strict=True):
        values = list(curve)
        times = [[1000 * pick(point["seconds"]) for point in curve.values()] for pick in _PICKS]
        axes.plot(values, times[0], marker="o", color="#1f5fa8", label="median")
        axes.fill_between(values, times[1], times[2], color="#1f5fa8", alpha=0.15, label="fastest to slowest")
        axes.set(xlabel=NAMES[name], ylabel="milliseconds a step", xlim=(0, None), ylim=(0, None))
        axes.grid(visible=True, alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


_PICKS: tuple[Callable[[list[float]], float], ...] = (median, min, max)


if __name__ == "__main__":
    main()
