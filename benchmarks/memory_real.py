"""Measures what training takes on a real base: for each setting of `memory`, beside inference and QLoRA.

    python -m benchmarks.memory_real --base DIR [--task sst2] [--batches 16,32] [--json FILE]

Every measurement is a process of its own. It loads the base, returns what loading has freed, and then counts the
growth of the resident set up to its highest point, what libraries keep after their first use included. `inference`
is the engine's forward of the batches, one copy of the adapter, option logits only. `lean` and `fast` are runs of a
pool of 16 probes: frozen prefix, steps, and an evaluation before and after them. `qlora` is peft on the same rows
with gradient checkpointing and AdamW, in `transformers`' own nf4 model. A step's seconds are processor time, which
other processes on the machine disturb less than the clock's; divided by the threads it is about the clock's.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
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
from steerzo_edge.model.layers import layer_count
from steerzo_edge.model.load import load_base
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
    parser.add_argument("--base", required=True, help="directory or hub id of a base in 16 bit")
    parser.add_argument("--task", default="sst2")
    parser.add_argument("--batches", default="16,32", help="rows a step")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        kind, subset, batch = options.child
        sys.stdout.write(json.dumps(_measured(options, kind, subset == "quarter", int(batch))) + "\n")
        return
    rows = []
    for batch in options.batches.split(","):
        for subset in ("quarter", "all"):
            for kind in options.kinds.split(","):
                rows.append(_in_child(options, kind, subset, batch))
                sys.stderr.write(json.dumps(rows[-1]) + "\n")
    machine = description(torch.device("cpu"))
    Console(width=140).print(f"{options.base} in nf4, {options.task}; {machine}", _table(rows), sep="\n")
    if options.json is not None:
        found = {"machine": machine, "base": Path(options.base).name, "task": options.task, "rows": rows}
        options.json.write_text(json.dumps(found, indent=1) + "\n")


def _in_child(options: argparse.Namespace, kind: str, subset: str, batch: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.memory_real", "--child", kind, subset, batch]
    command += ["--base", options.base, "--task", options.task, "--steps", str(options.steps)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    found = json.loads(done.stdout.splitlines()[-1])
    return {"kind": kind, "subset": subset, "batch": int(batch), **found}


def _measured(options: argparse.Namespace, kind: str, quarter: bool, batch: int) -> dict[str, Any]:
    if kind == "qlora":
        return _qlora(options, quarter, batch)
    base = load_base(options.base)
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
    loaded = _status("VmRSS")
    _reset()
    seconds, facts = (_inference if kind == "inference" else _steps)(base, profile, data)
    peak = _status("VmHWM")
    found = _estimated(base, profile, data)
    needs = {name: getattr(found, name).total - found.weights for name in ("zeroth_order", "exact", "checkpointed")}
    return {"loaded": loaded, "added": peak - loaded, "seconds": seconds, "estimated_added": needs, **facts}


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
    import peft
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)
    model = AutoModelForCausalLM.from_pretrained(
        options.base, dtype=torch.bfloat16, quantization_config=config, device_map="cpu"
    )
    model = peft.prepare_model_for_kbit_training(model, gradient_checkpointing_kwargs={"use_reentrant": False})
    layers = layer_count(model.config)
    top = max(1, layers // 4) if quarter else layers
    names = {name.rpartition(".")[2] for name, part in model.named_modules() if type(part).__name__ == "Linear4bit"}
    lora = peft.LoraConfig(
        r=8, lora_alpha=16, target_modules=sorted(names), layers_to_transform=list(range(layers - top, layers))
    )
    model = peft.get_peft_model(model, lora).train()
    rule = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], lr=1e-4)
    rows = _sequences(AutoTokenizer.from_pretrained(options.base), options, batch)
    give_back()
    loaded = _status("VmRSS")
    _reset()
    seconds = []
    for ids, mask, labels in rows:
        began = time.process_time()
        model(input_ids=ids, attention_mask=mask, labels=labels).loss.backward()
        rule.step()
        rule.zero_grad()
        seconds.append(time.process_time() - began)
    return {"loaded": loaded, "added": _status("VmHWM") - loaded, "seconds": median(seconds[1:])}


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
    table = Table()
    for column in ("rows a step", "layers", "", "added, MiB", "with the loaded base", "estimated", "s a step"):
        table.add_column(column, justify="right")
    name: Callable[[dict[str, Any]], str] = lambda row: "zeroth_order" if row["kind"] in ("lean", "fast") else ""  # noqa: E731
    for row in rows:
        guess = row.get("estimated_added", {}).get(name(row))
        both = row["loaded"] + row["added"]
        cells = (row["batch"], row["subset"], row["kind"], f"{row['added'] / MIB:.0f}", f"{both / MIB:.0f}")
        table.add_row(*map(str, cells), "" if guess is None else f"{guess / MIB:.0f}", f"{row['seconds']:.2f}")
    return table


def _status(name: str) -> int:
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if line.startswith(name)).split()[1])


def _reset() -> None:
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak of the resident set


if __name__ == "__main__":
    main()
