"""Compares subsets at the same number of forward passes, with one method and nothing set by hand.

    python -m benchmarks.subsets [--datasets snips,trec]

Every run finds its own radius and rate, so that a subset is not judged by another's. Writes
docs/results/subsets.json; a run that is in there is not done again. A forward through few layers is cheaper than
one through all, so the seconds of a run are shown too.
"""

import argparse
import json
import math
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.learning import Bed, learn, settings_of, steps_within
from benchmarks.machine import description
from benchmarks.quality import DEFAULT, METHODS
from steerzo_edge.model.load import load_base

TOP = {"kind": "lora", "last_layers": 2}
SUBSETS: dict[str, dict[str, Any]] = {
    "lora r8, top 2 of 8 layers": TOP,
    "lora r8, A trained too": {**TOP, "freeze_a": False},
    "lora r8, A spans the inputs": {**TOP, "init_a": "input-subspace"},
    "lora r1": {**TOP, "rank": 1, "alpha": 2},
    "lora r4": {**TOP, "rank": 4, "alpha": 8},
    "lora r16": {**TOP, "rank": 16, "alpha": 32},
    "lora-xs r8": {"kind": "lora-xs", "rank": 8, "last_layers": 2},
    "lora-xs r16": {"kind": "lora-xs", "rank": 16, "last_layers": 2},
    "lora r8, v and o": {**TOP, "targets": ["v_proj", "o_proj"]},
    "lora r8, top 4 layers": {"kind": "lora", "last_layers": 4},
    "lora r8, all layers": {"kind": "lora"},
    "lora r8, all layers, blocks of 2": {"kind": "lora", "block_layers": 2},
    "lora-xs r16, all layers": {"kind": "lora-xs", "rank": 16},
    "the last layer's weights": {"kind": "last-n-layers", "layers": 1},
}


def main() -> None:
    """Runs what is missing, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", default="snips,trec")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--budget", type=int, default=2400)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("docs/results/subsets.json"))
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    base = load_base()
    done = json.loads(options.out.read_text()) if options.out.exists() else {"runs": []}
    done |= {"machine": description(base.device), "method": DEFAULT, "budget": options.budget}
    settings = settings_of(METHODS[DEFAULT], "auto", "auto")
    for name in options.datasets.split(","):
        for subset, section in SUBSETS.items():
            waiting = [seed for seed in range(options.seeds) if not _find(done["runs"], name, subset, seed)]
            bed = Bed(base, name, section, {"examples": 16, "max_tokens": 48}) if waiting else None
            for seed in waiting:
                assert bed is not None
                size = bed.parts(settings, 1, seed).subset.parameters.numel()
                started = time.perf_counter()
                run = learn(bed, settings, steps_within(options.budget, settings), seed)
                run |= {"dataset": name, "subset": subset, "seed": seed, "size": size}
                done["runs"].append(run | {"seconds": round(time.perf_counter() - started, 1)})
                options.out.parent.mkdir(parents=True, exist_ok=True)
                options.out.write_text(json.dumps(done, indent=1) + "\n", encoding="utf-8")
                sys.stderr.write(f"{name} {subset} {seed}: {run['loss']} {run['accuracy']} {run['found']}\n")
    _show(done["runs"])


def _find(runs: list[dict[str, Any]], name: str, subset: str, seed: int) -> list[dict[str, Any]]:
    return [run for run in runs if (run["dataset"], run["subset"], run["seed"]) == (name, subset, seed)]


def _show(runs: list[dict[str, Any]]) -> None:
    table = Table(title="Subsets at equal forward passes, nothing set by hand")
    for column in ("dataset", "subset", "numbers", "loss", "spread", "accuracy", "seconds"):
        table.add_column(column, justify="left" if column in ("dataset", "subset") else "right")
    for name in dict.fromkeys(run["dataset"] for run in runs):
        for subset in dict.fromkeys(run["subset"] for run in runs):
            own = [run for run in runs if run["dataset"] == name and run["subset"] == subset]
            if not own:
                continue
            losses = sorted(math.inf if run["loss"] is None else run["loss"] for run in own)
            table.add_row(
                name,
                subset,
                f"{own[0]['size']:,}",
                f"{median(losses):.3f}",
                f"{losses[0]:.3f} - {losses[-1]:.3f}",
                f"{median(run['accuracy'] or 0 for run in own):.3f}",
                f"{median(run['seconds'] for run in own):.0f}",
            )
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
