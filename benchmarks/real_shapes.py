"""Step time and peak memory at real shapes with random weights: the reference loop, first-order QLoRA, and ours.

    python -m benchmarks.real_shapes [--shapes opt-1.3b,llama-3.1-8b,...] [--tokens 64,512] [--json FILE]

For a GPU. All rows have the same number of random tokens, so there is no padding, and two options of one token
each. The three alternate in one run:

    reference    the published loop (benchmarks.reference): a sequence an option, one probe at a time, full logits
    qlora        peft LoRA of the same rank, Adam: one forward and one backward over one sequence an example
    ours         stacked probes, and one probe at a time

Peak memory is that of torch's allocator while the step runs, less the weights of the other two. One step of each
method is not the same progress: the table is about cost.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.machine import description, timed
from benchmarks.reference import Reference
from benchmarks.shapes import random_base, random_model
from steerzo_edge.assemble import assemble
from steerzo_edge.data.tokenization import Choice, Choices
from steerzo_edge.model.base import Base
from steerzo_edge.model.load import default_device
from steerzo_edge.run_data import Data
from steerzo_edge.settings.profile import resolve
from steerzo_edge.training.loop import finetune

METHODS: dict[str, dict[str, Any]] = {
    "two-point": {"kind": "two-point"},
    "all-losses(8)": {"kind": "all-losses", "pool": 8},
}
Step = Callable[[], object]


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", default="opt-1.3b,qwen3-1.7b,llama-3.1-8b,opt-13b", help="comma-separated")
    parser.add_argument("--tokens", default="64,512", help="lengths of rows, comma-separated")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=10, help="counted steps of each, after two warm-ups")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    device = torch.device(default_device())
    if device.type != "cuda":
        sys.stderr.write(
            "no CUDA device: a trial of the script; memory is not measured, nor do these times mean much\n"
        )
    console = Console(width=130)
    console.print(f"{description(device)}; nf4, LoRA rank 8, {options.batch} rows a step")
    rows = []
    for shape in options.shapes.split(","):
        for tokens in map(int, options.tokens.split(",")):
            found = _compare(shape, tokens, options, device)
            table = Table(title=f"{shape}, rows of {tokens} tokens")
            for column in ("method", "seconds a step", "reference / this", "peak memory GiB"):
                table.add_column(column, justify="left" if column == "method" else "right")
            for row in found:
                ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f}"
                peak = "" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 2**30:.2f}"
                table.add_row(row["method"], f"{median(row['seconds']):.4f}", ratio, peak)
            console.print(table)
            rows += found
            if options.json is not None:
                options.json.write_text(json.dumps(rows, indent=1) + "\n")


def _compare(shape: str, tokens: int, options: argparse.Namespace, device: torch.device) -> list[dict[str, Any]]:
    data = random_rows(tokens, 8 * options.batch)
    before = _allocated(device)
    base = random_base(shape, device)
    own_bytes = _allocated(device) - before
    reference = Reference(random_model(shape, torch.bfloat16, device))
    their_bytes = _allocated(device) - before - own_bytes

    contestants: dict[str, tuple[Step, int]] = {
        "qlora, Adam": (_first_order(reference, data, options.batch), own_bytes)
    }
    for name, method in METHODS.items():
        contestants[f"reference {name}"] = (_loop(reference, name, data, options.batch), own_bytes)
        for stacked in ("auto", 1):
            label = f"ours {name}, {'stacked' if stacked == 'auto' else 'one by one'}"
            contestants[label] = (_ours(base, method, data, options.batch, stacked), their_bytes)

    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    peaks: dict[str, int | None] = dict.fromkeys(contestants)
    for _ in range(options.steps + 2):
        for name, (step, others) in contestants.items():
            took, peak = _measured(step, device)
            seconds[name].append(took)
            peaks[name] = None if peak is None else peak - before - others
    rows = []
    for name in contestants:
        against = next((f"reference {method}" for method in METHODS if method in name), None)
        ratio = None if against is None else median(seconds[against][2:]) / median(seconds[name][2:])
        rows.append(
            {
                "shape": shape,
                "tokens": tokens,
                "method": name,
                "seconds": seconds[name][2:],
                "ratio": ratio,
                "peak_bytes": peaks[name],
            }
        )
    return rows


def random_rows(tokens: int, count: int) -> Choices:
    """Rows of random tokens, with two options of one token each."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(10, 8000, (count, tokens), generator=generator).tolist()
    return Choices(
        tuple(Choice(tuple(row), index % 2) for index, row in enumerate(ids)), ((11,), (12,)), ("no", "yes")
    )


def _loop(reference: Reference, method: str, data: Choices, batch: int) -> Step:
    count = iter(range(10**9))
    return lambda: reference.step(method, data, 0, next(count), batch)


def _ours(base: Base, method: dict[str, Any], data: Choices, batch: int, stacked: object) -> Step:
    profile = resolve(
        {
            "subset": {"kind": "lora", "rank": 8},
            "method": {**method, "epsilon": 0.01},
            "batch": {"examples": batch, "probes_per_forward": stacked},
            "steps": 1_000_000,
        }
    )
    steps = finetune(assemble(base, profile, Data(data, None), seed=0))
    return lambda: next(steps)


def _first_order(reference: Reference, data: Choices, batch: int) -> Step:
    """One sequence an example, loss at the answer, gradients for the same LoRA."""
    trained = [p for name, p in reference.model.named_parameters() if "lora_" in name]
    adam = torch.optim.Adam(trained, lr=1e-5)
    rows = [row.prompt + data.options[row.answer] for row in data.rows[:batch]]
    ids = torch.tensor(rows, device=reference.model.device)
    labels = torch.full_like(ids, -100)
    labels[:, -1] = ids[:, -1]

    def step() -> None:
        reference.model.train()  # bitsandbytes' inference kernels have no gradient
        for parameter in trained:
            parameter.requires_grad_(True)
        reference.model(input_ids=ids, labels=labels).loss.backward()
        adam.step()
        adam.zero_grad(set_to_none=True)
        for parameter in trained:
            parameter.requires_grad_(False)
        reference.model.eval()

    return step


def _measured(step: Step, device: torch.device) -> tuple[float, int | None]:
    if device.type != "cuda":
        return timed(step, device)[0], None
    torch.cuda.reset_peak_memory_stats()
    return timed(step, device)[0], torch.cuda.max_memory_allocated()


def _allocated(device: torch.device) -> int:
    return torch.cuda.memory_allocated() if device.type == "cuda" else 0


if __name__ == "__main__":
    main()
