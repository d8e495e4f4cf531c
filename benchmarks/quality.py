"""Compares what methods learn from the same number of forward passes, each at its own learning rate.

    python -m benchmarks.quality [--datasets snips,trec] [--workers 2]      run what is missing, then report
    python -m benchmarks.quality --report                                   tables, pictures and quality.json only

For each dataset and method the learning rate is found on one grid (powers of 2), by walking from a first guess to
a rate whose neighbours are both worse in validation loss at the end of the budget (seed 0); then the other seeds
run at that rate. All methods have the same budget, batches, subset, radius and schedule. `auto` runs set neither
radius nor rate; the forwards of the search for them count towards the same budget. Every run is a line in
docs/results/quality/DATASET.jsonl and is never done twice.
"""

import argparse
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.first_order import exact
from benchmarks.learning import NAMES, Bed, learn, settings_of, steps_within
from benchmarks.machine import timed
from benchmarks.quality_report import report
from steerzo_edge.model.load import load_base
from steerzo_edge.records import StepRecord
from steerzo_edge.settings.profile import Profile
from steerzo_edge.training.decisions import tuned
from steerzo_edge.training.loop import finetune
from steerzo_edge.training.progress import Progress

METHODS: dict[str, dict[str, Any]] = {
    "two-point": {"kind": "two-point"},
    "guiding-vector(2)": {"kind": "guiding-vector", "pool": 2, "normalize": False},
    "guiding-vector(8)": {"kind": "guiding-vector", "pool": 8, "normalize": False},
    "greedy(4)": {"kind": "greedy", "pool": 4},
    "all-losses(8)": {"kind": "all-losses", "pool": 8, "scaling": "none"},
    "weighted-guide(8)": {"kind": "weighted-guide", "pool": 8},
    "weighted-guide(16)": {"kind": "weighted-guide", "pool": 16},
    "all-losses(8) normalized": {"kind": "all-losses", "pool": 8, "scaling": "normalized"},
    "all-losses(16) normalized": {"kind": "all-losses", "pool": 16, "scaling": "normalized"},
}
DEFAULT = "all-losses(16) normalized"
AUTO = (DEFAULT, "all-losses(8) normalized", "all-losses(8)")
SEEDS = (0, 1, 2)
EXACT_RATES = (1e-3, 3e-3, 1e-2)
EPSILON = 0.03
EXACT_SHARE = 16  # a run with exact gradients makes one step for each 16 forwards of the budget
RESULTS = Path("docs/results")


def main() -> None:
    """Runs what is missing, then reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", default=",".join(NAMES))
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--base", default="bundled")
    parser.add_argument("--budget", type=int, default=2400, help="forward passes of a run")
    parser.add_argument("--equal-steps", type=int, default=240, help="steps of the runs at equal steps")
    parser.add_argument("--equal-steps-datasets", default="snips,trec")
    parser.add_argument("--last-layers", type=int, default=2)
    parser.add_argument("--max-tokens", type=int, default=48)
    parser.add_argument("--workers", type=int, default=1, help="processes; each has one thread if more than one")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--report", action="store_true")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.workers > 1 and not options.report:
        _share_out(options)
    elif not options.report:
        base = load_base(options.base)
        subset = {"kind": "lora", "rank": 8, "alpha": 16, "freeze_a": True, "last_layers": options.last_layers}
        batch = {"examples": 16, "max_tokens": options.max_tokens}
        for name in options.datasets.split(","):
            _dataset(Bed(base, name, subset, batch), options)
    if options.threads == 0:
        report(options.out, DEFAULT)


def _share_out(options: argparse.Namespace) -> None:
    """Gives datasets to processes of one thread each: small products gain little from a second core."""
    waiting = options.datasets.split(",")
    running: list[subprocess.Popen[bytes]] = []
    passed = (
        "methods",
        "base",
        "budget",
        "equal_steps",
        "equal_steps_datasets",
        "last_layers",
        "max_tokens",
        "out",
    )
    flags = [part for key in passed for part in (f"--{key.replace('_', '-')}", str(getattr(options, key)))]
    while waiting or running:
        while waiting and len(running) < options.workers:
            command = [sys.executable, "-m", "benchmarks.quality", "--threads", "1", *flags]
            running.append(subprocess.Popen([*command, "--datasets", waiting.pop(0)]))
        running[0].wait()
        failed = [process.returncode for process in running if process.poll()]
        if failed:
            sys.exit(f"a worker failed with {failed[0]}")
        running = [process for process in running if process.poll() is None]


class _Log:
    """The runs of a dataset, one on each line; a run that is there is not done again."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._done: dict[str, dict[str, Any]] = {}
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                run = json.loads(line)
                self._done[_key(run)] = run

    def run(self, asked: dict[str, Any], work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What a run reached, from the file or by running it."""
        key = _key(asked)
        if key not in self._done:
            self._done[key] = {**asked, **work()}
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(self._done[key]) + "\n")
            outcome = {name: self._done[key].get(name) for name in ("loss", "accuracy", "found")}
            sys.stderr.write(f"{asked} {outcome}\n")
        return self._done[key]


def _key(run: dict[str, Any]) -> str:
    return json.dumps([run.get(name) for name in ("dataset", "kind", "method", "rate", "budget", "seed")])


def _dataset(bed: Bed, options: argparse.Namespace) -> None:
    log = _Log(options.out / "quality" / f"{bed.name}.jsonl")
    chosen = options.methods.split(",")
    for method in chosen:
        rate = _tuned(bed, log, method, "tuned", options.budget)
        for seed in SEEDS:
            _run(bed, log, method, "tuned", rate, options.budget, seed)
    for method in AUTO:
        for seed in SEEDS:
            _run(bed, log, method, "auto", "auto", options.budget, seed)
    reached = {rate: _exact(bed, log, rate, options.budget, 0)["loss"] for rate in EXACT_RATES}
    for seed in SEEDS:
        _exact(bed, log, min(reached, key=reached.__getitem__), options.budget, seed)
    _seconds(bed, log, chosen, options.budget)
    if bed.name in options.equal_steps_datasets.split(","):
        for method in chosen:
            budget = options.equal_steps * _cost(method)
            rate = _tuned(bed, log, method, "equal-steps", budget)
            for seed in SEEDS:
                _run(bed, log, method, "equal-steps", rate, budget, seed)


def _run(bed: Bed, log: _Log, method: str, kind: str, rate: float | str, budget: int, seed: int) -> dict[str, Any]:
    settings = settings_of(METHODS[method], rate, "auto" if kind == "auto" else EPSILON)
    asked = {"dataset": bed.name, "kind": kind, "method": method, "rate": rate, "budget": budget, "seed": seed}
    return log.run(asked, lambda: learn(bed, settings, steps_within(budget, settings), seed))


def _exact(bed: Bed, log: _Log, rate: float, budget: int, seed: int) -> dict[str, Any]:
    asked = {"dataset": bed.name, "kind": "exact", "method": "exact gradients (Adam)", "rate": rate}
    return log.run(asked | {"budget": budget, "seed": seed}, lambda: exact(bed, rate, budget // EXACT_SHARE, seed))


def _tuned(bed: Bed, log: _Log, method: str, kind: str, budget: int) -> float:
    """The rate on the grid whose neighbours are both worse, walking from a first guess."""

    def loss(power: int) -> float:
        found = _run(bed, log, method, kind, 2.0**power, budget, 0)["loss"]
        return float("inf") if found is None else float(found)

    power = _first_guess(bed, log, method, kind, budget)
    for direction in (1, -1):
        while loss(power + direction) < loss(power):
            power += direction
    return float(2.0**power)


def _first_guess(bed: Bed, log: _Log, method: str, kind: str, budget: int) -> int:
    """The rate that a run with `auto` takes, rounded to a power of 2."""

    def work() -> dict[str, Any]:
        steps = steps_within(budget, settings_of(METHODS[method], 1.0, EPSILON))
        parts = bed.parts(settings_of(METHODS[method], "auto", EPSILON), steps, 0)
        found = tuned(parts, Progress(), time.perf_counter)
        assert found is not None
        return {"found": {"learning_rate": found.learning_rate}}

    asked = {"dataset": bed.name, "kind": f"guess-{kind}", "method": method, "rate": None}
    found = log.run(asked | {"budget": budget, "seed": 0}, work)["found"]["learning_rate"]
    return round(math.log2(found))


def _seconds(bed: Bed, log: _Log, methods: list[str], budget: int) -> None:
    """Seconds of a step of each method, in turn, so that the curves can be drawn over time as well."""

    def work() -> dict[str, Any]:
        runs = {}
        for method in methods:
            parts = bed.parts(settings_of(METHODS[method], 1e-6, EPSILON), 100, 0)
            runs[method] = (record for record in finetune(parts) if isinstance(record, StepRecord))
        taken: dict[str, list[float]] = {method: [] for method in methods}
        for _ in range(12):
            for method, steps in runs.items():
                taken[method].append(timed(partial(next, steps), bed.base.device)[0])
        middle = {method: sorted(seconds[2:])[5] for method, seconds in taken.items()}
        return {"seconds": middle, "threads": torch.get_num_threads()}

    asked = {"dataset": bed.name, "kind": "seconds", "method": None, "rate": None, "budget": budget, "seed": 0}
    log.run(asked, work)


def _cost(method: str) -> int:
    return Profile.model_validate({"method": METHODS[method]}).method.cost


if __name__ == "__main__":
    main()
