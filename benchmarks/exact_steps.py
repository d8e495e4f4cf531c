"""Measures a step with exact gradients against peft: seconds alternating in one process, peaks in fresh processes.

    python -m benchmarks.exact_steps --base DIR [--tasks sst2,squad] [--subsets all,quarter] [--json FILE]

`exact` is this engine (`method: exact`, memory as named), `qlora` is peft's LoRA on `transformers`' nf4 model with
gradient checkpointing and Adam: the same rank, targets, rows and rows a step. Our first steps compute the hidden
states below the lowest trained layer; they are listed apart. A peak is the most that the resident set reached in
five steps, above what the process held with all libraries imported and nothing loaded. On a machine that does other
work at the same time, `--time processor` is disturbed less than the clock.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.machine import description
from benchmarks.workloads import top_quarter, workload
from steerzo_edge.assemble import assemble
from steerzo_edge.data.batches import batch_rows, forks
from steerzo_edge.data.examples import Dataset
from steerzo_edge.data.tokenization import Choices, Targets, Tokenized
from steerzo_edge.estimate import anatomy, load_config, planned, trained_by, work_of
from steerzo_edge.estimate.plan import run_needs
from steerzo_edge.model.allocator import give_back
from steerzo_edge.model.load import load_base, load_tokenizer
from steerzo_edge.model.positions import context_of
from steerzo_edge.model.resident import forget_peak, resident
from steerzo_edge.records import StepRecord
from steerzo_edge.run_data import Data, tokenized
from steerzo_edge.settings.profile import Profile, resolve
from steerzo_edge.training.loop import finetune

MIB = 1 << 20
Steps = Generator[None, None, None]  # one step at each `next`
RANK = 8
BATCHES = 3  # so many batches make an epoch
FAST = "fast"


def main() -> None:
    """Measures and prints; or, as a child, measures one thing and prints it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", required=True, help="directory of a base in 16 bit")
    parser.add_argument("--tasks", default="sst2,squad")
    parser.add_argument("--subsets", default="all,quarter")
    parser.add_argument("--kinds", default="lean,fast,qlora", help="settings of `memory`, and the peer")
    parser.add_argument("--batch", type=int, default=16, help="rows a step")
    parser.add_argument("--steps", type=int, default=9)
    parser.add_argument("--compute-dtype", default="bfloat16", help="of activations and expanded weights, for all")
    parser.add_argument("--time", default="clock", choices=("clock", "processor"), help="what the table shows")
    parser.add_argument("--no-peaks", action="store_true")
    parser.add_argument("--no-seconds", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        kind, task, subset = options.child
        found = _seconds(options, task, subset) if kind == "seconds" else _peak(options, kind, task, subset)
        sys.stdout.write(json.dumps(found) + "\n")
        return
    rows = []
    for task in options.tasks.split(","):
        for subset in options.subsets.split(","):
            rows.append({"task": task, "subset": subset, **_case(options, task, subset)})
            sys.stderr.write(json.dumps(rows[-1]) + "\n")
    machine = description(torch.device("cpu"))
    how = f"nf4, {options.compute_dtype}, {options.batch} rows a step, rank {RANK}"
    title = f"{Path(options.base).name} in {how}; {machine}"
    Console(width=140).print(title, _table(options, rows), sep="\n")
    if options.json is not None:
        found = {
            "machine": machine,
            "base": Path(options.base).name,
            "compute_dtype": options.compute_dtype,
            "batch": options.batch,
            "rows": rows,
        }
        options.json.write_text(json.dumps(found, indent=1) + "\n")


def _case(options: argparse.Namespace, task: str, subset: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if not options.no_seconds:
        found["seconds"] = _in_child(options, "seconds", task, subset)
    if not options.no_peaks:
        found["peaks"] = {kind: _in_child(options, kind, task, subset) for kind in options.kinds.split(",")}
    return found


def _in_child(options: argparse.Namespace, kind: str, task: str, subset: str) -> Any:
    command = [sys.executable, "-m", "benchmarks.exact_steps", "--child", kind, task, subset]
    command += ["--base", options.base, "--batch", str(options.batch), "--steps", str(options.steps)]
    command += ["--kinds", options.kinds, "--compute-dtype", options.compute_dtype]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def _seconds(options: argparse.Namespace, task: str, subset: str) -> dict[str, Any]:
    """Seconds of steps, one kind after the other in turns; ours after the first epoch, and in it."""
    kinds = options.kinds.split(",")
    with tempfile.TemporaryDirectory() as scratch:
        running = {kind: _running(options, kind, task, subset, Path(scratch) / kind) for kind in kinds}
        taken: dict[str, list[tuple[float, float]]] = {kind: [] for kind in kinds}
        for _ in range(options.steps):
            for kind, steps in running.items():
                began = time.perf_counter(), time.process_time()
                next(steps)
                taken[kind].append((time.perf_counter() - began[0], time.process_time() - began[1]))
        for steps in running.values():
            steps.close()
    found = {}
    for kind, seconds in taken.items():
        clock, processor = zip(*seconds, strict=True)
        found[kind] = {
            name: {"first_epoch": median(each[1:BATCHES]), "later": median(each[BATCHES:]), "all": each}
            for name, each in (("clock", clock), ("processor", processor))
        }
    return found


def _peak(options: argparse.Namespace, kind: str, task: str, subset: str) -> dict[str, Any]:
    if kind == "qlora":
        import_module("peft")
    runtime = resident("VmRSS")
    with tempfile.TemporaryDirectory() as scratch:
        steps = _running(options, kind, task, subset, Path(scratch))
        give_back()
        loaded = resident("VmRSS")
        forget_peak()
        for _ in range(5):
            next(steps)
        peak = resident("VmHWM")
        steps.close()
    found = {"runtime": runtime, "loaded": loaded, "peak": peak}
    return found if kind == "qlora" else found | _estimated(options, kind, task, subset == "quarter")


def _estimated(options: argparse.Namespace, memory: str, task: str, quarter: bool) -> dict[str, Any]:
    """What the estimate says of the same run, and the plan that it leads to."""
    config = load_config(options.base)
    body = anatomy(config)
    profile = _profile(options, memory, max(1, body.layers // 4) if quarter else None)
    tokenizer = load_tokenizer(options.base, None)
    rows = tokenized(tokenizer, 2048, profile, _rows(options, task), None, 0).train
    work = work_of(profile, context_of(config), rows)
    plan = planned(profile, body, work, device="cpu")
    needs = run_needs(profile, body, trained_by(profile, body), work, plan, device="cpu")
    return {"estimated": needs.total, "parts": dict(needs), "plan": asdict(plan)}


def _rows(options: argparse.Namespace, task: str) -> Dataset:
    return workload(task, BATCHES * options.batch)


def _running(options: argparse.Namespace, kind: str, task: str, subset: str, scratch: Path) -> Steps | Any:
    return (
        _qlora(options, task, subset == "quarter")
        if kind == "qlora"
        else _exact(options, kind, task, subset == "quarter", scratch)
    )


def _profile(options: argparse.Namespace, memory: str, last_layers: int | None) -> Profile:
    return resolve(
        {
            "model": {"compute_dtype": options.compute_dtype},
            "subset": {"kind": "lora", "rank": RANK, "freeze_a": False, "last_layers": last_layers},
            "method": {"kind": "exact"},
            "batch": {"examples": options.batch, "max_tokens": 320},
            "memory": memory,
            "steps": 1000,
        }
    )


def _exact(options: argparse.Namespace, memory: str, task: str, quarter: bool, scratch: Path) -> Steps:
    base = load_base(options.base, compute_dtype=getattr(torch, options.compute_dtype))
    profile = _profile(options, memory, top_quarter(base) if quarter else None)
    data = tokenized(base.tokenizer, base.context_length, profile, _rows(options, task), None, 0).train
    parts = assemble(base, profile, Data(data, None), seed=0, scratch=scratch)
    records = finetune(parts)

    def steps() -> Steps:
        try:
            for record in records:
                if isinstance(record, StepRecord):
                    yield
        finally:
            if parts.prefix is not None:
                parts.prefix.close()

    return steps()


def _qlora(options: argparse.Namespace, task: str, quarter: bool) -> Steps:
    """The peer: peft, bitsandbytes and `transformers`, without this engine's layers."""
    from transformers import AutoTokenizer

    from benchmarks.qlora import qlora_model

    dtype = getattr(torch, options.compute_dtype)
    model = qlora_model(options.base, rank=RANK, quarter=quarter, dtype=dtype)
    rule = torch.optim.Adam([each for each in model.parameters() if each.requires_grad], lr=1e-3)
    profile, tokenizer = _profile(options, FAST, None), AutoTokenizer.from_pretrained(options.base)
    data = tokenized(tokenizer, 2048, profile, _rows(options, task), None, 0).train
    sequences = [_sequence(data, index) for index in range(len(data.rows))]

    def steps() -> Steps:
        for step in range(1000):
            chosen = [sequences[index] for index in batch_rows(0, step, len(sequences), options.batch)]
            ids, mask, labels = _padded(chosen)
            model(input_ids=ids, attention_mask=mask, labels=labels).loss.backward()
            rule.step()
            rule.zero_grad()
            yield

    return steps()


def _sequence(data: Tokenized, index: int) -> tuple[list[int], list[int]]:
    """A row's tokens and labels: the completion, or the prompt with its right option; -100 is no label."""
    if isinstance(data, Targets):
        row = data.rows[index]
        tokens = list(row.tokens)
        return tokens, [token if counted else -100 for token, counted in zip(tokens, row.counted, strict=True)]
    assert isinstance(data, Choices)
    prompt, answer = forks(data, [index])[0].stem, data.options[data.rows[index].answer]
    return [*prompt, *answer], [-100] * len(prompt) + list(answer)


def _padded(rows: list[tuple[list[int], list[int]]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    width = max(len(tokens) for tokens, _ in rows)
    ids, mask, labels = (torch.full((len(rows), width), fill) for fill in (0, 0, -100))
    for index, (tokens, own) in enumerate(rows):
        ids[index, : len(tokens)], mask[index, : len(tokens)] = torch.tensor(tokens), 1
        labels[index, : len(tokens)] = torch.tensor(own)
    return ids, mask, labels


def _table(options: argparse.Namespace, rows: list[dict[str, Any]]) -> Table:
    table = Table()
    for column in (
        "rows",
        "layers",
        "",
        "s, first epoch",
        "s, later",
        "of qlora",
        "peak above runtime, MiB",
        "of qlora",
        "estimated",
    ):
        table.add_column(column, justify="right")
    for row in rows:
        for kind in options.kinds.split(","):
            cells = [row["task"], row["subset"], kind]
            if (seconds := row.get("seconds")) is not None:
                own = seconds[kind][options.time]
                cells += [f"{own['first_epoch']:.2f}", f"{own['later']:.2f}"]
                of = seconds["qlora"][options.time]["later"] if "qlora" in seconds else None
                cells.append("" if of is None else f"{own['later'] / of:.2f}")
            else:
                cells += ["", "", ""]
            if (peaks := row.get("peaks")) is not None:
                above = {name: found["peak"] - found["runtime"] for name, found in peaks.items()}
                cells.append(f"{above[kind] / MIB:.0f}")
                cells.append(f"{above[kind] / above['qlora']:.2f}" if "qlora" in above else "")
                cells.append(f"{peaks[kind]['estimated'] / MIB:.0f}" if "estimated" in peaks[kind] else "")
            table.add_row(*cells)
    return table


if __name__ == "__main__":
    main()
