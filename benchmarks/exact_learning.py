"""Measures how far forward passes only and exact gradients come on a real base: loss over seconds, and the peak.

    python -m benchmarks.exact_learning --base FILE [--task sst2] [--seconds 120] [--seeds 0] [--json FILE]

Each method and seed is a process of its own: it trains a LoRA in the top quarter of the layers until its steps have
taken so many processor seconds, and is evaluated at the start, after a quarter and a half of them, and at the end.
Evaluations are not counted. `forward only` is the default method with the rate that it finds, `exact` is
`method: exact` with its own default rate and a constant schedule; both with `memory: lean`, and the peak of the
process is listed.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.machine import description
from benchmarks.workloads import top_quarter, workload
from steerzo_edge.assemble import assemble
from steerzo_edge.model.load import load_base
from steerzo_edge.records import StepRecord
from steerzo_edge.run_data import split, tokenized
from steerzo_edge.settings.profile import resolve
from steerzo_edge.training.loop import finetune

METHODS: dict[str, dict[str, Any]] = {
    "forward only": {"method": {"kind": "all-losses", "pool": 16, "scaling": "normalized"}},
    "exact": {"method": {"kind": "exact"}, "rule": {"kind": "adam"}, "schedule": {"kind": "constant"}},
}
SHARES = (0.25, 0.5, 1.0)
MIB = 1 << 20


def main() -> None:
    """Measures and prints; or, as a child, measures one run and prints it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", required=True, help="a base, as `load_base` takes it")
    parser.add_argument("--task", default="sst2")
    parser.add_argument("--rows", type=int, default=1000, help="of the training file")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=120.0, help="processor seconds of a run's steps")
    parser.add_argument("--steps", type=int, default=400, help="length of the schedule of forward passes only")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        method, seed = options.child
        sys.stdout.write(json.dumps(_run(options, method, int(seed))) + "\n")
        return
    runs = []
    for seed in options.seeds.split(","):
        for method in METHODS:
            command = [sys.executable, "-m", "benchmarks.exact_learning", *sys.argv[1:], "--child", method, seed]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            runs.append({"method": method, "seed": int(seed), **json.loads(done.stdout.splitlines()[-1])})
            sys.stderr.write(json.dumps(runs[-1]) + "\n")
    machine = description(torch.device("cpu"))
    title = f"{Path(options.base).name} in nf4, {options.task}, {options.batch} rows a step; {machine}"
    Console(width=140).print(title, _table(runs), sep="\n")
    if options.json is not None:
        found = {"machine": machine, "base": Path(options.base).name, "task": options.task, "runs": runs}
        options.json.write_text(json.dumps(found, indent=1) + "\n")


def _run(options: argparse.Namespace, method: str, seed: int) -> dict[str, Any]:
    base = load_base(options.base)
    profile = resolve(
        {
            "subset": {"kind": "lora", "rank": 8, "last_layers": top_quarter(base)},
            "batch": {"examples": options.batch},
            "steps": options.steps,
            "watch": {"enabled": False},
            "evaluate": {"every": 10_000_000, "examples": 200, "holdout": 0.2},
            **METHODS[method],
        }
    )
    train, judged = split(workload(options.task, options.rows), profile, seed)
    data = tokenized(base.tokenizer, base.context_length, profile, train, judged, seed)
    points, spent, steps = [], 0.0, 0
    with tempfile.TemporaryDirectory() as scratch:
        parts = assemble(base, profile, data, seed, Path(scratch))
        assert parts.evaluate is not None

        def measured() -> None:
            assert parts.evaluate is not None
            found = parts.evaluate()
            points.append({"seconds": spent, "steps": steps, "loss": found.loss, "accuracy": found.accuracy})

        due = [share * options.seconds for share in SHARES]
        records = finetune(parts)
        next(records)  # the evaluation of the base
        measured()
        began = time.process_time()
        for record in records:
            spent += time.process_time() - began
            steps += isinstance(record, StepRecord)
            while due and spent >= due[0]:
                del due[0]
                measured()
            if not due:
                break
            began = time.process_time()
        if due:
            measured()
        if parts.prefix is not None:
            parts.prefix.close()
    status = Path("/proc/self/status").read_text()
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) * 1024
    return {"points": points, "peak": peak}


def _table(runs: list[dict[str, Any]]) -> Table:
    table = Table()
    for column in ("method", "seed", "processor seconds", "steps", "loss", "accuracy", "peak of the process, MiB"):
        table.add_column(column, justify="right")
    for run in runs:
        for point in run["points"]:
            accuracy = "" if point["accuracy"] is None else f"{point['accuracy']:.3f}"
            values = (f"{point['seconds']:.0f}", str(point["steps"]), f"{point['loss']:.3f}", accuracy)
            table.add_row(run["method"], str(run["seed"]), *values, f"{run['peak'] / MIB:.0f}")
    return table


if __name__ == "__main__":
    main()
