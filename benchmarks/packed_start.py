"""Measures what a packed base saves: the first start of a base, which packs it, and the next one, which maps it.

    python -m benchmarks.packed_start --base FILE_OR_DIR [--rounds 3] [--json FILE]

Every start is a process of its own. `load` is `load_base` alone, `process` is all from the command to its end,
imports included. `first` has an empty cache and fills it, `second` opens what the first one has kept, `source` has
no cache. A round has one of each, one after the other. Memory is the resident set, in MiB: after the imports, after
the load, at its highest point until then, and after an answer of eight tokens.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.machine import description

KINDS = ("source", "first", "second")
COLUMNS = ("process", "load", "imports_mib", "loaded_mib", "peak_mib", "answered_mib")
_MOST_BYTES = 1 << 40


def main() -> None:
    """Measures and prints; or, as a child, starts once and prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", required=True, help="a base of 4 bits can be packed from it")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        sys.stdout.write(json.dumps(started(options.base, options.child)) + "\n")
        return
    starts: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
    packed = 0
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as directory:
            for kind in KINDS:
                starts[kind].append(_in_child(options.base, "" if kind == "source" else directory))
            packed = sum(path.stat().st_size for path in Path(directory).glob("*.packed"))
    found = {
        kind: {name: median(each[name] for each in every) for name in COLUMNS} for kind, every in starts.items()
    }
    machine = description(torch.device("cpu"))
    Console(width=140).print(
        f"{options.base}, packed {packed / (1 << 20):.1f} MiB; {machine}", _table(found), sep="\n"
    )
    if options.json is not None:
        facts = {
            "machine": machine,
            "base": Path(options.base).name,
            "packed_bytes": packed,
            "rounds": options.rounds,
        }
        options.json.write_text(json.dumps({**facts, "medians": found, "starts": starts}, indent=1) + "\n")


def _in_child(base: str, directory: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.packed_start", "--base", base, "--child", directory]
    began = time.perf_counter()
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    # The answer is not part of a start.
    return {**found, "process": time.perf_counter() - began - found["answer"]}


def started(base: str, directory: str) -> dict[str, Any]:
    """Loads a base once.

    Args:
        base: As `load_base` takes it.
        directory: Of the cache; "" for none.

    Returns:
        Seconds of "load" and "answer"; MiB of "imports_mib", "loaded_mib", "peak_mib" and "answered_mib".
    """
    from steerzo_edge.decoding.generate import generate
    from steerzo_edge.decoding.sampling import Sampling
    from steerzo_edge.model.load import load_base
    from steerzo_edge.model.packed.cache import PackedCache

    imports = _status("VmRSS")
    cache = PackedCache(Path(directory), _MOST_BYTES) if directory else None
    began = time.perf_counter()
    loaded = load_base(base, device="cpu", cache=cache)
    load = time.perf_counter() - began
    found = {"load": load, "imports_mib": imports, "loaded_mib": _status("VmRSS"), "peak_mib": _status("VmHWM")}
    began = time.perf_counter()
    generate(loaded, "The capital of France is", sampling=Sampling(8))
    return {**found, "answer": time.perf_counter() - began, "answered_mib": _status("VmRSS")}


def _status(name: str) -> float:
    """A figure of this process, in MiB."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[name].split()[0]) / 1024


def _table(found: dict[str, dict[str, float]]) -> Table:
    table = Table("start", "process, s", "load_base, s", "/ first", "imports, MiB", "loaded", "peak", "answered")
    for kind, row in found.items():
        share = f"{row['process'] / found['first']['process']:.2f}, {row['load'] / found['first']['load']:.3f}"
        seconds = f"{row['process']:.2f}", f"{row['load']:.2f}"
        table.add_row(kind, *seconds, share, *(f"{row[name]:.0f}" for name in COLUMNS[2:]))
    return table


if __name__ == "__main__":
    main()
