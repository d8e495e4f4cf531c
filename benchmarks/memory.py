"""Compares the peak memory of a step with that of inference on the same batches, each in a fresh process.

    python -m benchmarks.memory [--shape qwen3-0.6b] [--json FILE]

Inference is one forward of the engine with the adapter active: packed rows, option logits only, no gradient.
`transformers` is the same batch through the model's own forward, padded, full logits. A step has noise, probes and
update; three steps are run, on three batches. On the CPU the peak is that of the resident set, the Python runtime
included; on CUDA that of torch's allocator.
"""

import argparse
import ctypes
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.machine import description
from benchmarks.shapes import random_base
from benchmarks.workloads import top_quarter, workload
from steerzo_edge.assemble import assemble
from steerzo_edge.model.base import Base
from steerzo_edge.model.load import default_device, load_base
from steerzo_edge.model.resident import forget_peak, resident
from steerzo_edge.model.subset import Copies
from steerzo_edge.objectives.likelihood import losses
from steerzo_edge.run_data import Data, tokenized
from steerzo_edge.settings.profile import resolve
from steerzo_edge.training.loop import finetune

SUBSETS: dict[str, dict[str, Any]] = {
    "lora-all": {"kind": "lora", "rank": 8},
    "lora-all-both": {"kind": "lora", "rank": 8, "freeze_a": False},
    "top-quarter": {"kind": "lora", "rank": 8},
    "last-1-layer": {"kind": "last-n-layers", "layers": 1},
}
POOLS = (1, 4, 8, 16)


def main() -> None:
    """Measures and prints; or, as a child, measures one thing and prints a number."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--shape", help="a shape of benchmarks.shapes with random weights; default: the bundled base"
    )
    parser.add_argument("--workload", default="sst2", help="sst2, boolq, squad or intents")
    parser.add_argument("--subsets", default=",".join(SUBSETS))
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        sys.stdout.write(f"{_peak(options, json.loads(options.child))}\n")
        return
    console = Console(width=130)
    console.print(f"{description(torch.device(default_device()))}; base {options.shape or 'bundled'} in nf4, bf16")
    rows = []
    for subset in options.subsets.split(","):
        loaded, inference, theirs = (
            _in_child(options, subset, what) for what in ("load", "inference", "transformers")
        )
        title = f"{options.workload}, {subset}: base and runtime {_mib(loaded)}, inference {_mib(inference)}"
        table = Table(title=f"{title}, transformers {_mib(theirs)}")
        for column in ("pool", "probes a forward", "peak of a step", "/ inference", "above it, a probe"):
            table.add_column(column, justify="right")
        for pool in POOLS:
            for stacked in sorted({1, pool}):
                peak = _in_child(options, subset, "step", pool, stacked)
                row = {
                    "workload": options.workload,
                    "subset": subset,
                    "pool": pool,
                    "probes_per_forward": stacked,
                    "loaded_bytes": loaded,
                    "inference_bytes": inference,
                    "transformers_bytes": theirs,
                    "step_bytes": peak,
                    "ratio": peak / inference,
                    "bytes_per_probe": (peak - inference) / stacked,
                }
                rows.append(row)
                each = _mib(row["bytes_per_probe"])
                table.add_row(str(pool), str(stacked), _mib(peak), f"{row['ratio']:.3f}", each)
        console.print(table)
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


def _in_child(options: argparse.Namespace, subset: str, what: str, pool: int = 1, stacked: int = 1) -> int:
    asked = json.dumps({"subset": subset, "what": what, "pool": pool, "stacked": stacked})
    command = [sys.executable, "-m", "benchmarks.memory", "--workload", options.workload, "--child", asked]
    command += ["--batch", str(options.batch)] + (["--shape", options.shape] if options.shape else [])
    return int(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def _peak(options: argparse.Namespace, asked: dict[str, Any]) -> int:
    base = _base(options.shape)
    subset = SUBSETS[asked["subset"]]
    if asked["subset"] == "top-quarter":
        subset = {**subset, "last_layers": top_quarter(base)}
    profile = resolve(
        {
            "subset": subset,
            "method": {"kind": "all-losses", "pool": asked["pool"]} if asked["pool"] > 1 else {"kind": "two-point"},
            "batch": {"examples": options.batch, "probes_per_forward": asked["stacked"]},
            "steps": 3,
        }
    )
    rows = workload(options.workload, 64)
    data = tokenized(base.tokenizer, base.context_length, profile, rows, None, seed=0).train
    parts = assemble(base, profile, Data(data, None), seed=0)
    batches = [parts.batches(step) for step in range(profile.steps)]
    serving = Copies(parts.subset, 1)

    def inference() -> None:
        for batch in batches:
            with torch.inference_mode(), base.bank.route(serving.hold()):
                losses(base, batch)

    def transformers() -> None:
        for batch in batches:
            sequences = [row.tokens for row in batch.packed.rows]
            width = max(map(len, sequences))
            ids = torch.tensor([[*s, *[0] * (width - len(s))] for s in sequences], device=base.device)
            mask = torch.tensor([[1] * len(s) + [0] * (width - len(s)) for s in sequences], device=base.device)
            with torch.inference_mode(), base.bank.route(serving.hold()):
                base.model(input_ids=ids, attention_mask=mask)

    def steps() -> None:
        for _ in finetune(parts):
            pass

    calls: dict[str, Callable[[], None]] = {
        "load": lambda: None,
        "inference": inference,
        "transformers": transformers,
        "step": steps,
    }
    return _peak_of(calls[asked["what"]], base.device)


def _base(shape: str | None) -> Base:
    if shape is None:
        return load_base()
    return random_base(shape, torch.device(default_device()))


def _peak_of(call: Callable[[], None], device: torch.device) -> int:
    """Bytes at the highest point while `call` runs, what was there before included."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        call()
        return torch.cuda.max_memory_allocated()
    ctypes.CDLL(None).malloc_trim(0)  # gives back what loading has freed
    forget_peak()
    call()
    return resident("VmHWM")


def _mib(size: float) -> str:
    return f"{size / 2**20:,.1f} MiB"


if __name__ == "__main__":
    main()
