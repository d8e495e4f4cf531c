"""Measures how far forward passes only, both at once and exact gradients come on a real base in equal seconds.

    python -m benchmarks.exact_learning --base FILE --json FILE [--sets sst2,snips] [--for 400] [--plot FILE]

Each way, set of rows and seed is a process of its own. It trains a LoRA in the top quarter of the layers on 500
rows, with `memory: lean` and a constant rate, until its steps have taken so many seconds. The loss is that of test
rows (200 of SST-2, 100 of snips, 60 of WikiSQL) at the start, and after a quarter, a half and all of the seconds;
evaluations are not counted. The peak is that of the process after the base was loaded.

Rates: before the counted runs, each way is trained on SST-2 with two rates and a seed that is not counted, for half
the seconds, with the hidden states of the frozen layers at hand; the rate with the lower loss on validation rows is
taken for all sets. So no way searches for its settings while it is measured.

Runs that the file holds are not made again; `--for` starts no run after so many seconds, so that the whole can be
measured in pieces.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from benchmarks.exact_learning_report import draw, table
from benchmarks.learning import Rows, rows_of
from benchmarks.machine import description
from benchmarks.workloads import DATA, fill_prefix, top_quarter
from steerzo_edge.assemble import assemble
from steerzo_edge.cli.packed_cache import user_cache
from steerzo_edge.data.examples import Completion, Dataset
from steerzo_edge.errors import DivergedError
from steerzo_edge.model.allocator import give_back
from steerzo_edge.model.base import Base
from steerzo_edge.model.load import load_base
from steerzo_edge.model.prefix import PrefixStore
from steerzo_edge.model.resident import forget_peak, resident
from steerzo_edge.records import StepRecord
from steerzo_edge.run_data import tokenized
from steerzo_edge.settings.profile import Profile, resolve
from steerzo_edge.storage.files import write_json
from steerzo_edge.training.loop import finetune
from steerzo_edge.training.parts import Parts

WAYS: dict[str, dict[str, Any]] = {
    "forward only": {
        "method": {"kind": "all-losses", "pool": 16, "scaling": "normalized", "epsilon": 0.01},
        "rule": {"kind": "sgd"},
    },
    "hybrid": {
        "method": {
            "kind": "hybrid",
            "exact_layers": 3,
            "estimator": {"kind": "all-losses", "pool": 16, "scaling": "normalized", "epsilon": 0.01},
        },
        "rule": {"kind": "adam"},
    },
    "exact": {"method": {"kind": "exact"}, "rule": {"kind": "adam"}},
}
# Of the rule; of hybrid, the rates of the layers with exact gradients and of those below.
RATES: dict[str, tuple[dict[str, float], ...]] = {
    "forward only": ({"rule.learning_rate": 0.03}, {"rule.learning_rate": 0.1}),
    "hybrid": (
        {"rule.learning_rate": 1e-3, "method.learning_rate": 0.03},
        {"rule.learning_rate": 3e-3, "method.learning_rate": 0.1},
    ),
    "exact": ({"rule.learning_rate": 1e-3}, {"rule.learning_rate": 3e-3}),
}
BATCH = {"sst2": 16, "snips": 16, "wikisql": 8}
SHARES = (0.25, 0.5, 1.0)
RATE_SET, RATE_SEED = "sst2", 100
TRAIN = 500
JUDGED = {"sst2": 200, "snips": 100, "wikisql": 60}


def main() -> None:
    """Measures what the file lacks, prints and draws; or, as a child, measures one thing and prints it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", required=True, help="a base, as `load_base` takes it")
    parser.add_argument("--json", type=Path, required=True, help="where the runs are; what it lacks is added")
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--sets", default=",".join(BATCH))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--seconds", type=float, default=40.0, help="of a run's steps")
    parser.add_argument("--compute-dtype", default="bfloat16", help="of activations and expanded weights")
    parser.add_argument("--for", dest="most", type=float, default=1e9, help="start no run after so many seconds")
    parser.add_argument("--plot", type=Path, help="a .png or .svg")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        way, name, given = options.child
        found = _rates(options, way, name) if given == "rates" else _counted(options, way, name, json.loads(given))
        sys.stdout.write(json.dumps(found) + "\n")
        return
    _measure(options)
    found = _read(options)
    Console(width=140).print(table(found))
    if options.plot is not None:
        draw(found, options.plot)


def _measure(options: argparse.Namespace) -> None:
    """Adds the runs that the file lacks, one process each."""
    began = time.perf_counter()
    for name in options.sets.split(","):
        for way in options.ways.split(","):
            seeds: list[int | None] = [int(seed) for seed in options.seeds.split(",")]
            for seed in (None, *seeds):
                found = _read(options)
                if _has(found, way, name, seed):
                    continue
                if time.perf_counter() - began > options.most:
                    return
                if seed is None:
                    found["rates"].append({"way": way, **_in_child(options, way, RATE_SET, "rates")})
                else:
                    chosen = next(each for each in found["rates"] if each["way"] == way)
                    given = json.dumps({"seed": seed, "chosen": chosen["chosen"]})
                    own = _in_child(options, way, name, given)
                    found["runs"].append({"way": way, "set": name, "seed": seed, **own})
                write_json(options.json, found)


def _read(options: argparse.Namespace) -> dict[str, Any]:
    if options.json.exists():
        found: dict[str, Any] = json.loads(options.json.read_text())
        return found
    machine = description(torch.device("cpu"))
    return {
        "machine": machine,
        "base": Path(options.base).name,
        "compute_dtype": options.compute_dtype,
        "seconds": options.seconds,
        "rates": [],
        "runs": [],
    }


def _has(found: dict[str, Any], way: str, name: str, seed: int | None) -> bool:
    if seed is None:
        return any(each["way"] == way for each in found["rates"])
    return any((each["way"], each["set"], each["seed"]) == (way, name, seed) for each in found["runs"])


def _in_child(options: argparse.Namespace, way: str, name: str, given: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.exact_learning", "--child", way, name, given]
    command += ["--base", options.base, "--json", str(options.json)]
    command += ["--seconds", str(options.seconds), "--compute-dtype", options.compute_dtype]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    sys.stderr.write(f"{way}, {name}: {json.dumps(found)}\n")
    return found


def _base(options: argparse.Namespace) -> Base:
    return load_base(options.base, compute_dtype=getattr(torch, options.compute_dtype), cache=user_cache())


def _rows(name: str) -> Rows:
    if name != "wikisql":
        found = rows_of(name)
        return Rows(found.train.pick(list(range(TRAIN))), found.validation, found.test)
    parts = []
    for part in ("train", "test"):
        path = DATA / "practical" / "wikisql_text2sql" / f"{part}.jsonl"
        texts = [json.loads(line)["text"] for line in path.read_text(encoding="utf-8").splitlines()]
        pairs = [text.rpartition("\nA:") for text in texts]
        parts.append([Completion(f"{before}\nA:", answer) for before, mark, answer in pairs if mark])
    train, test = parts
    judged = JUDGED[name]
    cut = [train[:-judged][:TRAIN], train[-judged:], test[:judged]]
    return Rows(*(Dataset("completion", tuple(rows), tuple(range(1, len(rows) + 1))) for rows in cut))


def _profile(options: argparse.Namespace, way: str, name: str, base: Base, changes: Mapping[str, Any]) -> Profile:
    return resolve(
        {
            "model": {"compute_dtype": options.compute_dtype},
            "subset": {"kind": "lora", "rank": 8, "last_layers": top_quarter(base)},
            "batch": {"examples": BATCH[name], "max_tokens": 256},
            "schedule": {"kind": "constant"},
            "steps": 10_000_000,
            "watch": {"enabled": False},
            "evaluate": {"every": 10_000_000, "examples": JUDGED[name]},
            **WAYS[way],
        },
        changes,
    )


def _parts(
    base: Base,
    profile: Profile,
    rows: tuple[Dataset, Dataset],
    seed: int,
    scratch: str,
    prefix: PrefixStore | None = None,
) -> Parts:
    data = tokenized(base.tokenizer, base.context_length, profile, *rows, 0)
    return assemble(base, profile, data, seed, Path(scratch), prefix=prefix)


def _rates(options: argparse.Namespace, way: str, name: str) -> dict[str, Any]:
    """Trains with each rate for half the seconds, and takes the best by validation rows."""
    base, rows, tried = _base(options), _rows(name), []
    prefix = None
    with tempfile.TemporaryDirectory() as scratch:
        for changes in RATES[way]:
            profile = _profile(options, way, name, base, changes)
            parts = _parts(base, profile, (rows.train, rows.validation), RATE_SEED, scratch, prefix)
            if prefix is None:
                prefix = parts.prefix
                fill_prefix(parts, len(rows.train), BATCH[name])  # so that every rate has the same steps
            try:
                last = _trained(parts, [options.seconds / 2])[-1]
            except DivergedError:
                last = {"loss": None}
            tried.append({"changes": changes, **last})
        if prefix is not None:
            prefix.close()
    best = min((each for each in tried if each["loss"] is not None), key=lambda each: each["loss"])
    return {"tried": tried, "chosen": best["changes"]}


def _counted(options: argparse.Namespace, way: str, name: str, given: dict[str, Any]) -> dict[str, Any]:
    """One run, with the peak of its process."""
    base, rows = _base(options), _rows(name)
    profile = _profile(options, way, name, base, given["chosen"])
    give_back()
    forget_peak()
    with tempfile.TemporaryDirectory() as scratch:
        parts = _parts(base, profile, (rows.train, rows.test), given["seed"], scratch)
        points = _trained(parts, [share * options.seconds for share in SHARES])
        if parts.prefix is not None:
            parts.prefix.close()
    return {"points": points, "peak": resident("VmHWM")}


def _trained(parts: Parts, due: list[float]) -> list[dict[str, Any]]:
    """Trains, and evaluates at the start and whenever the steps have taken so many seconds."""
    points: list[dict[str, Any]] = []
    spent, processor, steps = 0.0, 0.0, 0

    def evaluated() -> None:
        assert parts.evaluate is not None
        found = parts.evaluate()
        at = {"seconds": spent, "processor": processor, "steps": steps}
        points.append({**at, "loss": found.loss, "accuracy": found.accuracy})

    records = finetune(parts)
    first = next(records).as_dict()  # the evaluation of the base
    start = {"seconds": 0.0, "processor": 0.0, "steps": 0}
    points.append({**start, "loss": first["loss"], "accuracy": first["accuracy"]})
    while due:
        began = time.perf_counter(), time.process_time()
        record = next(records)
        spent += time.perf_counter() - began[0]
        processor += time.process_time() - began[1]
        steps += isinstance(record, StepRecord)
        if spent >= due[0]:
            due = [each for each in due if each > spent]
            evaluated()
    return points


if __name__ == "__main__":
    main()
