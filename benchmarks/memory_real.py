"""Measures what loading and training take on a real base: for each setting of `memory`, beside inference and QLoRA.

    python -m benchmarks.memory_real --base FILE [--task sst2] [--batches 16,32] [--json FILE]

Every measurement is a process of its own: the resident set at the highest point of the load, after it, and at the
highest point of what follows. `inference` is the engine's forward of the batches, one copy of the adapter, option
logits only. `lean` and `fast` are runs of a pool of 16 probes: frozen prefix, steps, and an evaluation before and
after them. `qlora` is peft on the same rows with gradient checkpointing and AdamW, in `transformers`' own nf4
model; for it a GGUF file is written as a 16-bit checkpoint first. A step's seconds are processor time, which other
processes on the machine disturb less than the clock's; divided by the threads it is about the clock's.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.machine import description
from benchmarks.workloads import top_quarter, workload
from steerzo_edge.assemble import assemble, plan_of
from steerzo_edge.data.batches import forks
from steerzo_edge.data.tokens import Tokens
from steerzo_edge.estimate import MemoryEstimate, anatomy, estimate, work_of
from steerzo_edge.model.allocator import give_back
from steerzo_edge.model.base import Base
from steerzo_edge.model.load import load_base
from steerzo_edge.model.quantization import STORAGES
from steerzo_edge.model.resident import forget_peak, resident
from steerzo_edge.model.sources.registry import source_of
from steerzo_edge.model.sources.source import Loading
from steerzo_edge.model.subset import Copies
from steerzo_edge.objectives.likelihood import losses
from steerzo_edge.records import StepRecord
from steerzo_edge.run_data import Data, split, tokenized
from steerzo_edge.settings.profile import Profile, resolve
from steerzo_edge.training.loop import finetune

ROWS = 400
KINDS = ("inference", "lean", "fast", "qlora")
MIB = 1 << 20


def main() -> None:
    """Measures and prints; or, as a child, measures one thing and prints it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", required=True, help="a GGUF file, or a directory with a base in 16 bit")
    parser.add_argument("--task", default="sst2")
    parser.add_argument("--batches", default="16,32", help="rows a step")
    parser.add_argument("--subsets", default="quarter,all", help="of the layers")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--json", type=Path, help="written after every row")
    parser.add_argument("--keep", action="store_true", help="keep the rows that the JSON file has, add the others")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.keep and options.json is None:
        parser.error("--keep needs --json")
    if options.child is not None:
        kind, subset, batch = options.child
        sys.stdout.write(json.dumps(_measured(options, kind, subset == "quarter", int(batch))) + "\n")
        return
    rows = json.loads(options.json.read_text())["rows"] if options.keep and options.json.exists() else []
    machine = description(torch.device("cpu"))
    with tempfile.TemporaryDirectory() as directory:
        for case in product(options.batches.split(","), options.subsets.split(","), options.kinds.split(",")):
            if any((str(row["batch"]), row["subset"], row["kind"]) == case for row in rows):
                continue
            batch, subset, kind = case
            base = _checkpoint(options.base, Path(directory)) if kind == "qlora" else options.base
            rows.append(_in_child(options, base, kind, subset, batch))
            sys.stderr.write(json.dumps(rows[-1]) + "\n")
            if options.json is not None:
                found = {"machine": machine, "base": Path(options.base).name, "task": options.task, "rows": rows}
                options.json.write_text(json.dumps(found, indent=1) + "\n")
    Console(width=140).print(f"{options.base} in nf4, {options.task}; {machine}", _table(rows), sep="\n")


def _checkpoint(base: str, directory: Path) -> str:
    """The base as a 16-bit checkpoint in a directory, which is what peft loads."""
    if not base.endswith(".gguf"):
        return base
    if not any(directory.iterdir()):
        source = source_of(base, None)
        loading = Loading(STORAGES["none"], True, torch.bfloat16, torch.device("cpu"))
        source.model(loading).save_pretrained(directory)
        source.tokenizer().save_pretrained(directory)
    return str(directory)


def _in_child(options: argparse.Namespace, base: str, kind: str, subset: str, batch: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.memory_real", "--child", kind, subset, batch]
    command += ["--base", base, "--task", options.task, "--steps", str(options.steps)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    found = json.loads(done.stdout.splitlines()[-1])
    return {"kind": kind, "subset": subset, "batch": int(batch), **found}


def _measured(options: argparse.Namespace, kind: str, quarter: bool, batch: int) -> dict[str, Any]:
    if kind == "qlora":
        return _qlora(options, quarter, batch)
    imports = resident("VmRSS")
    base = load_base(options.base, device="cpu")
    load_peak = resident("VmHWM")
    subset = {"kind": "lora", "rank": 8, "last_layers": top_quarter(base) if quarter else None}
    profile = resolve(
        {
            "subset": subset,
            "method": {"kind": "all-losses", "pool": 16, "epsilon": 0.01},
            "rule": {"kind": "sgd", "learning_rate": 1e-4},
            "batch": {"examples": batch},
            "memory": "lean" if kind == "inference" else kind,
            "steps": options.steps,
        }
    )
    data = _data(base, profile, options.task)
    give_back()
    loaded = resident("VmRSS")
    forget_peak()
    seconds, facts = (_inference if kind == "inference" else _steps)(base, profile, data)
    peak = resident("VmHWM")
    found = _estimated(base, profile, data)
    needs = {name: getattr(found, name).total for name in ("zeroth_order", "checkpointed")}
    sizes = {"imports": imports, "load_peak": load_peak, "loaded": loaded, "peak": peak, "estimated": needs}
    return {**sizes, "seconds": seconds, **facts}


def _data(base: Base, profile: Profile, task: str) -> Data:
    train, judged = split(workload(task, ROWS), profile, 0)
    return tokenized(base.tokenizer, base.context_length, profile, train, judged, 0)


def _estimated(base: Base, profile: Profile, data: Data) -> MemoryEstimate:
    rows = [data.train] if data.validation is None else [data.train, data.validation]
    work = work_of(profile, base.context_length, *rows)
    return estimate(profile, anatomy(base.model.config), work, device="cpu")


def _inference(base: Base, profile: Profile, data: Data) -> tuple[float, dict[str, Any]]:
    parts = assemble(base, profile, Data(data.train, None), seed=0)
    serving = Copies(parts.subset, 1)
    seconds, tokens = [], []
    for step in range(profile.steps):
        batch = parts.batches(step)
        began = time.process_time()
        with torch.inference_mode(), base.bank.route(serving.hold()):
            losses(base, batch)
        seconds.append(time.process_time() - began)
        tokens.append(batch.tokens)
    return median(seconds[1:]), {"tokens": tokens}


def _steps(base: Base, profile: Profile, data: Data) -> tuple[float, dict[str, Any]]:
    """Processor seconds of a step, without the first, which fills caches."""
    plan = plan_of(base, profile, data)
    seconds, began = [], time.process_time()
    with tempfile.TemporaryDirectory() as scratch:
        parts = assemble(base, profile, data, seed=0, scratch=Path(scratch))
        for record in finetune(parts):
            if isinstance(record, StepRecord):
                seconds.append(time.process_time() - began)
            began = time.process_time()
        if parts.prefix is not None:
            parts.prefix.close()
    return median(seconds[1:]), {"probes_per_forward": plan.probes, "all_seconds": seconds}


def _qlora(options: argparse.Namespace, quarter: bool, batch: int) -> dict[str, Any]:
    """The peer: peft, bitsandbytes and `transformers`, without this engine's layers."""
    from transformers import AutoTokenizer

    from benchmarks.qlora import qlora_model

    imports = resident("VmRSS")
    model = qlora_model(options.base, rank=8, quarter=quarter)
    rule = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], lr=1e-4)
    load_peak = resident("VmHWM")
    rows = _sequences(AutoTokenizer.from_pretrained(options.base), options, batch)
    give_back()
    loaded = resident("VmRSS")
    forget_peak()
    seconds = []
    for ids, mask, labels in rows:
        began = time.process_time()
        model(input_ids=ids, attention_mask=mask, labels=labels).loss.backward()
        rule.step()
        rule.zero_grad()
        seconds.append(time.process_time() - began)
    sizes = {"imports": imports, "load_peak": load_peak, "loaded": loaded, "peak": resident("VmHWM")}
    return {**sizes, "seconds": median(seconds[1:])}


def _sequences(
    tokenizer: Any, options: argparse.Namespace, batch: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """The rows with their right option, padded; only the option is a label."""
    profile = resolve({"batch": {"examples": batch}})
    train, _ = split(workload(options.task, ROWS), profile, 0)
    data = tokenized(tokenizer, 2048, profile, train, None, 0).train
    answers = [data.options[row.answer] for row in data.rows]  # type: ignore[union-attr]
    whole: list[tuple[Tokens, Tokens]] = [(fork.stem, own) for fork, own in zip(forks(data), answers, strict=True)]
    for step in range(options.steps):
        chosen = whole[step * batch : (step + 1) * batch]
        width = max(len(prompt) + len(answer) for prompt, answer in chosen)
        ids, mask, labels = (torch.full((batch, width), fill) for fill in (0, 0, -100))
        for index, (prompt, answer) in enumerate(chosen):
            size = len(prompt) + len(answer)
            ids[index, :size], mask[index, :size] = torch.tensor([*prompt, *answer]), 1
            labels[index, len(prompt) : size] = torch.tensor(answer)
        yield ids, mask, labels


def _table(rows: list[dict[str, Any]]) -> Table:
    """Sizes of whole processes in MiB; estimates with the imports added."""
    table = Table()
    for column in ("rows a step", "layers", "", "load", "loaded", "peak", "/ inference", "estimated", "s a step"):
        table.add_column(column, justify="right")
    for row in rows:
        same = (other for other in rows if other["kind"] == "inference")
        beside = [
            other["peak"] for other in same if (other["batch"], other["subset"]) == (row["batch"], row["subset"])
        ]
        guess = row["imports"] + row["estimated"]["zeroth_order"] if row["kind"] in ("lean", "fast") else 0
        table.add_row(
            *(str(row[name]) for name in ("batch", "subset", "kind")),
            *(f"{row[name] / MIB:.0f}" for name in ("load_peak", "loaded", "peak")),
            f"{row['peak'] / beside[0]:.2f}" if beside else "",
            f"{guess / MIB:.0f}" if guess else "",
            f"{row['seconds']:.2f}",
        )
    return table


if __name__ == "__main__":
    main()
