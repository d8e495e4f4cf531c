"""Step time of this engine against the plain reference loop, alternating in one run, on real rows.

    python -m benchmarks.step_time [--workloads sst2,boolq,squad] [--steps 10] [--json FILE]

Prints, for each workload, subset and method: median seconds of both, the ratio, real tokens a second, and the
share of the machine's measured matrix rate that the frozen layers' useful work comes to (2 operations for each
weight of the linear layers and each real token; padding does not count as work).
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.machine import description, matrix_rate
from benchmarks.reference import Reference
from benchmarks.workloads import DATA, workload
from steerzo_edge.assemble import assemble, tokenized
from steerzo_edge.data.tokenization import Tokenized
from steerzo_edge.finetuning import Parts, finetune
from steerzo_edge.model.base import Base
from steerzo_edge.model.layers import layer_count
from steerzo_edge.model.load import load_base
from steerzo_edge.profile import Profile, resolve

METHODS: dict[str, dict[str, Any]] = {
    "two-point": {"kind": "two-point"},
    "guiding-vector(2)": {"kind": "guiding-vector", "pool": 2},
    "guiding-vector(8)": {"kind": "guiding-vector", "pool": 8},
    "greedy(4)": {"kind": "greedy", "pool": 4},
    "all-losses(8)": {"kind": "all-losses", "pool": 8},
}
SUBSETS = ("lora-all", "top-quarter")
MAX_TOKENS = 512


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison; times in seconds a step."""

    workload: str
    subset: str
    method: str
    reference_s: list[float]
    ours_s: list[float]
    ratio_median: float
    tokens_per_s: float
    matrix_share: float


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workloads", default="sst2", help="comma-separated: sst2, boolq, squad, intents")
    parser.add_argument("--subsets", default="lora-all", help=f"comma-separated: {', '.join(SUBSETS)}")
    parser.add_argument("--methods", default=",".join(METHODS), help="comma-separated")
    parser.add_argument("--base", default="bundled")
    parser.add_argument("--quantization", default="nf4")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=10, help="counted steps of each, after two warm-ups")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if not DATA.is_dir():
        options.workloads = "intents"
        sys.stderr.write(f"no data at {DATA}; measuring on the bundled commands instead\n")

    base = load_base(options.base, quantization=options.quantization)
    rate = matrix_rate(base.compute_dtype, base.device)
    console = Console(width=140)
    console.print(f"{description(base.device)}; measured matrix rate {rate / 1e9:.0f} GFLOP/s")
    rows = []
    for name in options.workloads.split(","):
        for subset in options.subsets.split(","):
            found = list(_compare(base, name, subset, options, rate))
            console.print(_table(name, subset, found))
            rows += found
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


def _compare(base: Base, name: str, subset: str, options: argparse.Namespace, rate: float) -> Iterator[Row]:
    last = None if subset == "lora-all" else max(1, layer_count(base.model.config) // 4)
    dataset = workload(name)
    source = str(base.model.config.name_or_path)
    reference = Reference(source, base.quantization, base.compute_dtype, base.device, last_layers=last)
    weights = sum(layer.in_features * layer.out_features for layer in base.bank.layers.values())
    for method in options.methods.split(","):
        profile = _profile(METHODS[method], last, options)
        data = tokenized(base.tokenizer, base.context_length, profile, dataset, None, seed=0).train
        parts = assemble(base, profile, _only(data), seed=0)
        ours, theirs, tokens = _alternate(parts, reference, method, data, options)
        seconds = median(ours)
        yield Row(
            name,
            subset,
            method,
            theirs,
            ours,
            median(r / o for r, o in zip(theirs, ours, strict=True)),
            tokens / seconds,
            2 * weights * tokens / seconds / rate,
        )


def _alternate(
    parts: Parts, reference: Reference, method: str, data: Tokenized, options: argparse.Namespace
) -> tuple[list[float], list[float], float]:
    """Seconds of both, step by step in turn, and real tokens our step put through the model."""
    steps = finetune(parts)
    ours, theirs, counts = [], [], [0]
    for step in range(options.steps + 2):
        theirs.append(_timed(lambda step=step: reference.step(method, data, 0, step, options.batch, 5)))  # type: ignore[misc]
        records: list[Any] = []
        ours.append(_timed(lambda records=records: records.append(next(steps))))  # type: ignore[misc]
        counts.append(records[0].tokens)
    return ours[2:], theirs[2:], (counts[-1] - counts[2]) / options.steps


def _timed(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _profile(method: dict[str, Any], last: int | None, options: argparse.Namespace) -> Profile:
    return resolve(
        {
            "subset": {"kind": "lora", "rank": 8, "alpha": 16, "last_layers": last},
            "method": {**method, "epsilon": 0.01},
            "rule": {"kind": "sgd", "learning_rate": 1e-4},
            "batch": {"examples": options.batch, "max_tokens": MAX_TOKENS},
            "steps": 1_000_000,
        }
    )


def _only(train: Tokenized) -> Any:
    from steerzo_edge.assemble import Data

    return Data(train, None)


def _table(name: str, subset: str, rows: list[Row]) -> Table:
    table = Table(title=f"{name}, {subset}")
    for column in ("method", "reference s", "ours s", "ratio", "real tokens/s", "matrix share"):
        table.add_column(column, justify="left" if column == "method" else "right")
    for row in rows:
        spread = f"{min(row.ours_s):.3f}-{max(row.ours_s):.3f}"
        table.add_row(
            row.method,
            f"{median(row.reference_s):.3f}",
            f"{median(row.ours_s):.3f} ({spread})",
            f"{row.ratio_median:.2f}",
            f"{row.tokens_per_s:,.0f}",
            f"{row.matrix_share:.0%}",
        )
    return table


if __name__ == "__main__":
    main()
