"""Step time of this engine against the plain reference loop, alternating in one run, on real rows.

    python -m benchmarks.step_time [--base FILE.gguf] [--workloads sst2,boolq,squad] [--json FILE [--keep]]

Prints, for each workload, subset and method: median seconds of both with their spread, the ratio (median of the
ratios of neighbouring steps), real tokens a second, and the share of the machine's measured matrix rate that the
frozen layers reach while they run (2 operations for each weight and each real token that goes through it; padding
does not count as work). Then where the time goes, from two further steps with clocks inside.

Where the trainable subset leaves a frozen prefix, that is computed before the counted steps, as it is once in a
run; its seconds are printed. `--keep` makes a long measurement in parts: what the JSON file has is not measured
again.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.machine import description, matrix_rate, timed
from benchmarks.reference import Reference, reference_model
from benchmarks.split import PARTS, clocked
from benchmarks.workloads import DATA, fill_prefix, top_quarter, workload
from steerzo_edge.assemble import assemble
from steerzo_edge.data.tokenization import Tokenized
from steerzo_edge.model.base import Base
from steerzo_edge.model.layers import layer_index
from steerzo_edge.model.load import load_base
from steerzo_edge.records import StepRecord
from steerzo_edge.run_data import Data, tokenized
from steerzo_edge.settings.profile import Profile, resolve
from steerzo_edge.training.loop import finetune
from steerzo_edge.training.parts import Parts

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
    prefix_s: float
    split: dict[str, float]


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workloads", default="sst2,boolq,squad", help="comma-separated; also: intents")
    parser.add_argument("--subsets", default=",".join(SUBSETS), help="comma-separated")
    parser.add_argument("--methods", default=",".join(METHODS), help="comma-separated")
    parser.add_argument("--base", default="bundled", help="as for `steerzo train`")
    parser.add_argument("--quantization", default="nf4")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=10, help="counted steps of each")
    parser.add_argument("--warm-ups", type=int, default=2, help="steps of each before them")
    parser.add_argument("--rows", type=int, default=1000, help="of which the batches are drawn")
    parser.add_argument("--memory", default="fast", help="the profile's: fast or lean")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--keep", action="store_true", help="keep the rows that the JSON file has, add the others")
    options = parser.parse_args()
    if not DATA.is_dir():
        options.workloads = "intents"
        sys.stderr.write(f"no data at {DATA}; measuring on the bundled commands instead\n")

    base = load_base(options.base, quantization=options.quantization)
    methods = options.methods.split(",")
    rate = matrix_rate(base.compute_dtype, base.device)
    console = Console(width=150)
    console.print(f"{description(base.device)}; measured matrix rate {rate / 1e9:.0f} GFLOP/s")
    console.print(
        f"base {base.name} in {base.quantization}, {options.batch} rows a step, {options.steps} steps each"
    )
    rows = _kept(options)
    for name in options.workloads.split(","):
        for subset in options.subsets.split(","):
            known = {row.method for row in rows if (row.workload, row.subset) == (name, subset)}
            found = []
            for row in _compare(base, name, subset, [m for m in methods if m not in known], options, rate):
                found.append(row)
                if options.json is not None:
                    options.json.write_text(json.dumps([asdict(row) for row in rows + found], indent=1) + "\n")
            rows += found
            if found:
                console.print(_times(name, subset, found), _split(name, subset, found))


def _kept(options: argparse.Namespace) -> list[Row]:
    if not options.keep or options.json is None or not options.json.is_file():
        return []
    return [Row(**row) for row in json.loads(options.json.read_text())]


def _compare(
    base: Base, name: str, subset: str, methods: Sequence[str], options: argparse.Namespace, rate: float
) -> Iterator[Row]:
    if not methods:
        return
    last = None if subset == "lora-all" else top_quarter(base)
    dataset = workload(name, options.rows)
    reference = Reference(reference_model(base), last_layers=last)
    for method in methods:
        profile = _profile(METHODS[method], last, options)
        data = tokenized(base.tokenizer, base.context_length, profile, dataset, None, seed=0).train
        parts = assemble(base, profile, Data(data, None), seed=0)
        prefix_s, _ = timed(partial(fill_prefix, parts, len(data.rows), options.batch), base.device)
        steps = (record for record in finetune(parts) if isinstance(record, StepRecord))
        theirs, ours, records = _alternate(steps, reference, method, data, options)
        tokens = _tokens(records)[options.warm_ups :]
        with clocked(base.device) as split:
            clocked_tokens = sum(_tokens([records[-1], next(steps), next(steps)])[1:])
        yield Row(
            name,
            subset,
            method,
            theirs,
            ours,
            median(r / o for r, o in zip(theirs, ours, strict=True)),
            median(t / s for t, s in zip(tokens, ours, strict=True)),
            2 * _active_weights(base, parts) * clocked_tokens / split.seconds["base layers"] / rate,
            prefix_s if parts.prefix is not None else 0.0,
            split.shares(),
        )


def _alternate(
    steps: Iterator[StepRecord], reference: Reference, method: str, data: Tokenized, options: argparse.Namespace
) -> tuple[list[float], list[float], list[StepRecord]]:
    """Seconds of their counted steps and of ours, in turn, and the records of all of ours."""
    theirs, ours, records = [], [], []
    for step in range(options.steps + options.warm_ups):
        theirs.append(timed(partial(reference.step, method, data, 0, step, options.batch), reference.device)[0])
        seconds, record = timed(partial(next, steps), reference.device)
        ours.append(seconds)
        records.append(record)
    return theirs[options.warm_ups :], ours[options.warm_ups :], records


def _tokens(records: Sequence[StepRecord]) -> list[int]:
    """Real tokens of each step, from the running sums in the records."""
    sums = [record.tokens for record in records]
    return [sums[0], *(after - before for before, after in pairwise(sums))]


def _active_weights(base: Base, parts: Parts) -> int:
    """Weights of the linear layers that every probe goes through."""
    first = 0 if parts.prefix is None else parts.prefix.first_layer
    active = [layer for name, layer in base.bank.layers.items() if layer_index(name) >= first]
    return sum(layer.in_features * layer.out_features for layer in active)


def _profile(method: dict[str, Any], last: int | None, options: argparse.Namespace) -> Profile:
    return resolve(
        {
            "subset": {"kind": "lora", "rank": 8, "alpha": 16, "last_layers": last},
            "method": {**method, "epsilon": 0.01},
            "rule": {"kind": "sgd", "learning_rate": 1e-4},
            "batch": {"examples": options.batch, "max_tokens": MAX_TOKENS},
            "memory": options.memory,
            "steps": 1_000_000,
        }
    )


def _times(name: str, subset: str, rows: list[Row]) -> Table:
    prefix = f"; frozen prefix of all rows once: {rows[0].prefix_s:.1f} s" if rows[0].prefix_s else ""
    table = Table(title=f"{name}, {subset}{prefix}")
    for column in ("method", "reference s", "ours s", "ratio", "real tokens/s", "matrix share"):
        table.add_column(column, justify="left" if column == "method" else "right")
    for row in rows:
        table.add_row(
            row.method,
            _spread(row.reference_s),
            _spread(row.ours_s),
            f"{row.ratio_median:.2f}",
            f"{row.tokens_per_s:,.0f}",
            f"{row.matrix_share:.0%}",
        )
    return table


def _split(name: str, subset: str, rows: list[Row]) -> Table:
    table = Table(title=f"{name}, {subset}: where the time goes")
    for column in ("method", *PARTS):
        table.add_column(column, justify="left" if column == "method" else "right")
    for row in rows:
        table.add_row(row.method, *(f"{row.split[part]:.0%}" for part in PARTS))
    return table


def _spread(seconds: list[float]) -> str:
    return f"{median(seconds):.3f} ({min(seconds):.3f}-{max(seconds):.3f})"


if __name__ == "__main__":
    main()
