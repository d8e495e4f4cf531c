"""Compares the estimated memory of runs on real bases with their measured peaks: `estimate_error --base FILE`.

Every case is a run of two steps in a process of its own: frozen prefix, steps, an evaluation before and after.
Counted is the growth of the resident set over what the process held when everything was imported: base, tokenizer,
tensors, gaps in the heap, and what libraries keep. Nothing in the estimate is fitted to these runs.
"""

import ctypes
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.machine import description
from benchmarks.workloads import top_quarter, workload
from steerzo_edge.assemble import assemble, plan_of
from steerzo_edge.estimate import MemoryNeeds, anatomy, estimate, work_of
from steerzo_edge.model.base import Base
from steerzo_edge.model.load import load_base
from steerzo_edge.model.resident import forget_peak, resident
from steerzo_edge.run_data import Data, split, tokenized
from steerzo_edge.settings.profile import Profile, resolve
from steerzo_edge.training.loop import finetune

ROWS = 200
JUDGED = 32
MAX_TOKENS = 96
MIB = 1 << 20
# A size of the whole process between what `lean` and `fast` take, by the size of the base's file.
SIZES = (("600 MiB", 150 * MIB), ("1000 MiB", None))


@dataclass(frozen=True, slots=True)
class RealCase:
    """One run on a real base.

    Args:
        layers: "quarter" for the topmost quarter of the layers, or "all".
        examples: Rows in a batch.
        pool: Probes a step.
        memory: "lean", "fast", or "size".
        rows: "sst2" (labelled, two options of one token) or "squad" (completions, over the whole vocabulary).
    """

    layers: str
    examples: int
    pool: int
    memory: str
    rows: str

    @property
    def title(self) -> str:
        """The case in a few words."""
        where = "all layers" if self.layers == "all" else "top quarter"
        return f"{self.rows}, {where}, {self.examples} rows, {self.pool} probes, {self.memory}"


# Every pair of values of two settings occurs.
REAL_CASES = (
    RealCase("quarter", 8, 4, "lean", "sst2"),
    RealCase("all", 8, 16, "lean", "squad"),
    RealCase("quarter", 8, 16, "fast", "squad"),
    RealCase("all", 8, 4, "fast", "sst2"),
    RealCase("quarter", 8, 16, "size", "sst2"),
    RealCase("all", 8, 4, "size", "squad"),
    RealCase("quarter", 16, 16, "lean", "squad"),
    RealCase("all", 16, 4, "lean", "sst2"),
    RealCase("quarter", 16, 4, "fast", "sst2"),
    RealCase("all", 16, 16, "fast", "squad"),
    RealCase("quarter", 16, 4, "size", "squad"),
    RealCase("all", 16, 16, "size", "sst2"),
    RealCase("quarter", 32, 4, "lean", "squad"),
    RealCase("all", 32, 16, "lean", "sst2"),
    RealCase("quarter", 32, 16, "fast", "sst2"),
    RealCase("all", 32, 4, "fast", "squad"),
    RealCase("quarter", 32, 16, "size", "squad"),
    RealCase("all", 32, 4, "size", "sst2"),
)


def compare(bases: Sequence[Path], only: str, results: Path) -> None:
    """Measures the cases that the file of results lacks, adds each to it, and prints all.

    Args:
        bases: GGUF files or directories.
        only: Cases whose title has this in it.
        results: A JSON file; made if missing.
    """
    machine = description(torch.device("cpu"))
    found: dict[str, Any] = (
        json.loads(results.read_text()) if results.exists() else {"machine": machine, "cases": []}
    )
    for base in bases:
        for case in REAL_CASES:
            known = {(row["base"], row["title"]) for row in found["cases"]}
            if only not in case.title or (base.stem, case.title) in known:
                continue
            found["cases"].append({"base": base.stem, "title": case.title, **_in_child(case, base)})
            results.write_text(json.dumps(found, indent=1) + "\n")
            sys.stderr.write(f"{base.stem}: {case.title}\n")
    Console(width=150).print(machine, table(found["cases"]), summary(found["cases"]), sep="\n")


def measured(case: RealCase, path: str) -> dict[str, Any]:
    """Measures a case in this process, which must be fresh, and estimates it."""
    before = resident("VmRSS")
    base = load_base(path, device="cpu")
    profile = profile_of(case, base, path)
    train, judged = split(workload(case.rows, ROWS), profile, 0)
    data = tokenized(base.tokenizer, base.context_length, profile, train, judged, 0)
    needs = _needs(base, profile, data)
    plan = plan_of(base, profile, data)
    ctypes.CDLL(None).malloc_trim(0)
    loaded = resident("VmRSS")
    forget_peak()
    with tempfile.TemporaryDirectory() as scratch:
        parts = assemble(base, profile, data, seed=0, scratch=Path(scratch))
        for _ in finetune(parts):
            pass
        peak = resident("VmHWM")
        if parts.prefix is not None:
            parts.prefix.close()
    return {
        "imports": before,
        "loaded": loaded - before,
        "peak": peak - before,
        "estimated": needs.total,
        "parts": dict(needs),
        "plan": asdict(plan),
        "error": needs.total / (peak - before) - 1,
    }


def profile_of(case: RealCase, base: Base, path: str) -> Profile:
    """The settings of a case."""
    size = None if case.memory != "size" else next(size for size, most in SIZES if _is_within(path, most))
    return resolve(
        {
            "subset": {
                "kind": "lora",
                "rank": 8,
                "last_layers": top_quarter(base) if case.layers == "quarter" else None,
            },
            "method": {"kind": "all-losses", "pool": case.pool, "epsilon": 0.01},
            "rule": {"kind": "sgd", "learning_rate": 1e-4},
            "batch": {"examples": case.examples, "max_tokens": MAX_TOKENS},
            "memory": size or case.memory,
            "evaluate": {"examples": JUDGED},
            "steps": 2,
        }
    )


def summary(rows: list[dict[str, Any]]) -> str:
    """Sums up the errors in a sentence for each base."""
    sentences = []
    for base in dict.fromkeys(row["base"] for row in rows):
        errors = [abs(row["error"]) for row in rows if row["base"] == base]
        within = sum(error <= 0.15 for error in errors)
        sentences.append(
            f"{base}: {within} of {len(errors)} within 15 %; median error {median(errors):.1%}, "
            f"largest {max(errors):.1%}."
        )
    return " ".join(sentences)


def markdown(rows: list[dict[str, Any]]) -> str:
    """The table of docs/results/estimate_error.md, in Markdown."""
    lines = ["| base | run | estimated MiB | measured MiB | error |", "| --- | --- | ---: | ---: | ---: |"]
    for row in rows:
        sizes = f"{row['estimated'] / MIB:,.0f} | {row['peak'] / MIB:,.0f}"
        lines.append(f"| {row['base']} | {row['title']} | {sizes} | {row['error']:+.1%} |")
    return "\n".join(lines)


def table(rows: list[dict[str, Any]]) -> Table:
    """The table that is printed."""
    found = Table("base", "run")
    for title in ("probes at once", "loaded", "estimated", "peak", "error"):
        found.add_column(title, justify="right")
    for row in rows:
        sizes = (f"{row[name] / MIB:,.0f}" for name in ("loaded", "estimated", "peak"))
        found.add_row(row["base"], row["title"], str(row["plan"]["probes"]), *sizes, f"{row['error']:+.1%}")
    return found


def _is_within(path: str, most: int | None) -> bool:
    return most is None or Path(path).stat().st_size < most


def _needs(base: Base, profile: Profile, data: Data) -> MemoryNeeds:
    rows = [data.train] if data.validation is None else [data.train, data.validation]
    work = work_of(profile, base.context_length, *rows)
    return estimate(profile, anatomy(base.model.config), work, device="cpu").zeroth_order


def _in_child(case: RealCase, base: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.estimate_error_real", json.dumps(asdict(case)), str(base)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measured(RealCase(**json.loads(sys.argv[1])), sys.argv[2])) + "\n")
