"""Kills a server again and again while it works on many short jobs, and counts what is lost.

    python -m benchmarks.chaos [--kills 200] [--modes kill,full,broken,torn]

A first server runs every job once, undisturbed; its adapters and losses are what is expected. Then a second server
runs the same jobs while it is disturbed, in one of four ways:

    kill    SIGKILL at random moments: while it starts, during steps, snapshots and uploads
    torn    SIGKILL too, and half a line is appended to a journal before the next start
    full    the data directory on a small file system that is filled up and emptied again
    broken  fsync fails with EIO in one of twenty calls

At the end every job must have succeeded with the expected adapter, byte for byte, and with the expected loss of
every step, each step once. An upload that was answered must be complete; any other must be complete or absent.
Writes docs/results/chaos.json, and ends with exit code 1 if anything was lost.
"""

import argparse
import json
import logging
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.chaos_tally import Tally
from benchmarks.fleet import fleet_of
from benchmarks.machine import description
from benchmarks.storm import Storm


def main() -> None:
    """Runs every mode, then prints and writes what was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="SIGKILLs in mode kill; other modes take a quarter")
    parser.add_argument("--modes", default="kill,torn,full,broken")
    parser.add_argument("--jobs", type=int, default=12, help="different jobs of the fleet")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--base", default="bundled")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("docs/results/chaos.json"))
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        fleet = fleet_of(root, options)
        tallies = []
        for mode in options.modes.split(","):
            number = options.kills if mode == "kill" else max(options.kills // 4, 1)
            tallies.append(Storm(root / mode, fleet, mode, number, options).run())
            print(json.dumps(asdict(tallies[-1])), flush=True)  # noqa: T201
    _report(tallies, options)
    sys.exit(1 if any(tally.lost for tally in tallies) else 0)


def _report(tallies: list[Tally], options: argparse.Namespace) -> None:
    table = Table(title="What was lost")
    table.add_column("")
    for tally in tallies:
        table.add_column(tally.mode, justify="right")
    for row in asdict(Tally("")):
        if row not in ("mode", "moments"):
            table.add_row(row.replace("_", " "), *(str(asdict(tally)[row]) for tally in tallies))
    Console().print(table)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    found = {
        "machine": description(torch.device("cpu")),
        "base": options.base,
        "modes": [asdict(tally) for tally in tallies],
    }
    options.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
