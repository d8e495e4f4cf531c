"""Compares the estimated memory of a run with its measured peak, for a grid of shapes.

    python -m benchmarks.estimate_error [--only WORD] [--json FILE] [--rewrite docs/results/estimate_error.md]
    python -m benchmarks.estimate_error --measured FILE [FILE ...]      # new estimates, earlier peaks
    python -m benchmarks.estimate_error --base FILE [FILE ...] --json FILE      # real bases; continues FILE

The estimate is made from the config and the rows alone. The measurement is a run of three steps, with evaluations,
on random weights of four families, each in a fresh process. It counts bytes above what the process held when
everything was imported. On the CPU the resident set is measured, on CUDA torch's allocator. With `--base` the runs
are those of `benchmarks.estimate_error_real`, on real bases.
"""

import argparse
import ctypes
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from rich.console import Console
from transformers import AutoModelForCausalLM

from benchmarks import estimate_error_real
from benchmarks.estimate_error_cases import CASES, CONTEXT, OTHERS, Case, config_of, profile_of, rows_of
from benchmarks.estimate_error_report import markdown, summary, table
from benchmarks.machine import description
from steerzo_edge.assemble import assemble
from steerzo_edge.estimate import MemoryNeeds, anatomy, estimate, load_config, work_of
from steerzo_edge.model.load import default_device, load_base, load_tokenizer
from steerzo_edge.model.resident import forget_peak, resident
from steerzo_edge.run_data import Data, split, tokenized
from steerzo_edge.training.loop import finetune

START, END = "<!-- estimate-error -->", "<!-- /estimate-error -->"


def estimated(case: Case, path: str, device: str) -> MemoryNeeds:
    """Estimates the bytes of a run from the config and the rows alone."""
    profile, config = profile_of(case, path), load_config(path)
    train, judged = split(rows_of(case), profile, 0)
    data = tokenized(load_tokenizer(path), CONTEXT, profile, train, judged, 0)
    assert data.validation is not None
    work = work_of(profile, CONTEXT, data.train, data.validation)
    return estimate(profile, anatomy(config), work, device=device).zeroth_order


def measured(case: Case, path: str) -> dict[str, int]:
    """Measures bytes above this process' own: after loading, and at the highest point of the run."""
    before = _now()
    found: dict[str, int] = {}

    def loaded() -> None:
        found["loaded"] = _now() - before
        _reset()

    _run(case, path, loaded)
    found["peak"] = _peak() - before
    return found


def save(case: Case, directory: Path) -> None:
    """Writes a case's base with random weights."""
    model = AutoModelForCausalLM.from_config(config_of(case), dtype=torch.bfloat16)
    model.save_pretrained(directory)
    load_tokenizer().save_pretrained(directory)


def main() -> None:
    """Measures and prints; or, as a child, measures one case and prints it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="cases whose title has this in it")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rewrite", type=Path, help="a document whose table is replaced")
    parser.add_argument("--measured", type=Path, nargs="+", help="take the peaks from these files of --json")
    parser.add_argument("--base", type=Path, nargs="+", help="GGUF files or directories: runs on these instead")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        case, path = Case(**json.loads(options.child[0])), options.child[1]
        sys.stdout.write(json.dumps(measured(case, path)) + "\n")
        return
    if options.base is not None:
        estimate_error_real.compare(options.base, options.only, options.json or Path("estimate_error_real.json"))
        return
    known = [json.loads(path.read_text()) for path in options.measured or ()]
    grids = (("fitted", CASES), ("others", OTHERS))
    cases = [(name, case) for name, grid in grids for case in grid if options.only in case.title]
    rows = [{"grid": name, **row(case, known)} for name, case in cases]
    machine = known[0]["machine"] if known else description(torch.device(default_device()))
    Console(width=150).print(machine, table(rows), summary(rows), sep="\n")
    if options.json is not None:
        options.json.write_text(json.dumps({"machine": machine, "cases": rows}, indent=1) + "\n")
    if options.rewrite is not None:
        text = options.rewrite.read_text()
        head, tail = text.split(START)[0], text.split(END)[1]
        options.rewrite.write_text(f"{head}{START}\n{machine}.\n\n{summary(rows)}\n\n{markdown(rows)}\n{END}{tail}")


def row(case: Case, known: list[dict[str, Any]]) -> dict[str, Any]:
    """Estimates and measures one case.

    Args:
        case: The run.
        known: Earlier results; without any it is measured in a process of its own.
    """
    with tempfile.TemporaryDirectory() as path:
        save(case, Path(path))
        needs = estimated(case, path, default_device())
        found = _peaks(case, known) if known else [_in_child(case, path)]
    error = needs.total / fmean(found) - 1
    return {
        "title": case.title,
        **asdict(case),
        "parts": dict(needs),
        "estimated": needs.total,
        "peaks": found,
        "error": error,
    }


def _peaks(case: Case, known: list[dict[str, Any]]) -> list[int]:
    found = [row for result in known for row in result["cases"] if row["title"] == case.title]
    return [peak for row in found for peak in row["peaks"]]


def _in_child(case: Case, path: str) -> int:
    command = [sys.executable, "-m", "benchmarks.estimate_error", "--child", json.dumps(asdict(case)), path]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return int(json.loads(done.stdout.splitlines()[-1])["peak"])


def _run(case: Case, path: str, loaded: Callable[[], None]) -> None:
    """Loads, then runs three steps."""
    profile = profile_of(case, path)
    base = load_base(path, quantization=profile.model.quantization, compute_dtype=profile.model.dtype)
    train, judged = split(rows_of(case), profile, 0)
    data = tokenized(base.tokenizer, CONTEXT, profile, train, judged, 0)
    loaded()
    for _ in finetune(assemble(base, profile, Data(data.train, data.validation), seed=0)):
        pass


def _now() -> int:
    if torch.cuda.is_available():
        return torch.cuda.memory_allocated()
    ctypes.CDLL(None).malloc_trim(0)
    return resident("VmRSS")


def _reset() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    else:
        forget_peak()


def _peak() -> int:
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else resident("VmHWM")


if __name__ == "__main__":
    main()
