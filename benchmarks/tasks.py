"""Runs the eleven benchmark tasks: zero-shot, in context, and after a short run with nothing set by hand.

    python -m benchmarks.tasks [--tasks sst2,rte] [--steps 200] [--base HUB_ID]

Writes docs/results/tasks.json; a task that is in there is not run again. On the small bundled base the figures show
that the path from file to metric works, not how good the method is. All three settings have prompts of the same
greatest length: demonstrations are left out until a row fits, and `shots` says how many it has on average.
"""

import argparse
import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.machine import description
from benchmarks.quality import DEFAULT, METHODS
from benchmarks.workloads import DATA
from steerzo_edge.data.examples import Dataset
from steerzo_edge.data.reading import read_dataset
from steerzo_edge.data.tasks import TASKS
from steerzo_edge.model.base import Base
from steerzo_edge.model.load import load_base
from steerzo_edge.objectives.shots import in_context, measured, thinned
from steerzo_edge.records import EvalRecord, TuneRecord
from steerzo_edge.run import Run
from steerzo_edge.settings.profile import Profile, resolve

SHOTS = 4
LENGTHS = {"boolq": 256, "multirc": 384, "record": 384, "squad": 320, "drop": 384}
# Long answers and long passages: a step costs four times one of the others' as it is.
EXAMPLES = {"squad": 4, "drop": 4, "record": 4}


def main() -> None:
    """Runs the tasks that are missing, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--examples", type=int, default=100, help="rows that are evaluated")
    parser.add_argument("--base", default="bundled")
    parser.add_argument("--last-layers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("docs/results/tasks.json"))
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    base = load_base(options.base)
    done = json.loads(options.out.read_text()) if options.out.exists() else {"tasks": {}}
    done |= {"machine": description(base.device), "base": base.name}
    for name in options.tasks.split(","):
        if name not in done["tasks"]:
            done["tasks"][name] = _task(base, name, options)
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text(json.dumps(done, indent=1) + "\n", encoding="utf-8")
    _show(done["tasks"])


def _task(base: Base, name: str, options: argparse.Namespace) -> dict[str, Any]:
    train, dev = (_rows(name, part) for part in ("train", "dev"))
    dev = thinned(dev, options.examples, 0)
    profile = _profile(name, options)
    started = time.perf_counter()
    with TemporaryDirectory() as directory:
        run = Run(Path(directory), base, profile, thinned(train, 1000, 0), dev)
        records = list(run.records())
        result = run.finish()
        run.close()
        assert run.data.validation is not None
        truncated = run.data.validation.truncated
    first, last = (next(r for r in order if isinstance(r, EvalRecord)) for order in (records, records[::-1]))
    return {
        "metric": TASKS[name].metric,
        "rows": len(dev),
        "max_tokens": min(profile.batch.max_tokens, base.context_length),
        "zero_shot": {"truncated": truncated, "loss": first.loss, **first.metrics},
        "in_context": _in_context(base, train, dev, profile),
        "trained": {"truncated": truncated, "loss": last.loss, **last.metrics},
        "batch": profile.batch.examples,
        "steps": options.steps,
        "forwards": result.forwards,
        "seconds": round(time.perf_counter() - started, 1),
        "found": [record.message for record in records if isinstance(record, TuneRecord)],
    }


def _rows(name: str, part: str) -> Dataset:
    path = DATA / "tasks" / name / f"{part}.jsonl"
    return read_dataset(path.read_bytes(), name=path.name, benchmark=name)


def _profile(name: str, options: argparse.Namespace) -> Profile:
    return resolve(
        {
            "subset": {"kind": "lora", "last_layers": options.last_layers},
            "method": METHODS[DEFAULT],
            "batch": {"examples": EXAMPLES.get(name, 16), "max_tokens": LENGTHS.get(name, 192)},
            "steps": options.steps,
            "evaluate": {"every": options.steps, "examples": options.examples, "generate": options.examples},
        }
    )


def _in_context(base: Base, train: Dataset, dev: Dataset, profile: Profile) -> dict[str, float]:
    room = min(profile.batch.max_tokens, base.context_length)
    found = measured(base, in_context(base, dev, train, SHOTS, seed=0, room=room), room)
    figures: dict[str, float] = {name: found[name] for name in ("shots", "truncated", "loss")}
    figures.update(found["metrics"])
    return figures


def _show(tasks: dict[str, Any]) -> None:
    table = Table(title="The eleven tasks, nothing set by hand")
    for column in ("task", "metric", "zero-shot", "in context", "trained", "loss before", "after", "forwards", "s"):
        table.add_column(column, justify="left" if column in ("task", "metric") else "right")
    for name, found in tasks.items():
        key = found["metric"].replace("-", "_")
        scores = [f"{found[kind].get(key, float('nan')):.3f}" for kind in ("zero_shot", "in_context", "trained")]
        losses = [f"{found[kind]['loss']:.3f}" for kind in ("zero_shot", "trained")]
        table.add_row(name, key, *scores, *losses, str(found["forwards"]), f"{found['seconds']:.0f}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
