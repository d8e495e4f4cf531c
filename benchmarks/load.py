"""Measures a job that trains while many clients follow events and submit jobs: its speed, failures and memory.

    python -m benchmarks.load [--readers 200] [--submitters 50] [--rounds 4] [--seconds 15]

One server runs one job. Intervals with and without clients take turns; speed is steps a second over an interval.
The clients stand for other machines, so they run at low priority in a process of their own. Writes
docs/results/load.json.
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

import psutil
import torch

from benchmarks.lives import Life, free_port
from benchmarks.machine import description
from server.commands.client import Client

SETTLE_S = 2.0
LONG = {
    "subset": {"kind": "lora", "rank": 8, "last_layers": 2},
    "method": {"kind": "all-losses", "pool": 8, "epsilon": 0.01},
    "rule": {"kind": "momentum", "learning_rate": 0.001},
    "batch": {"examples": 16, "max_tokens": 64},
    "steps": 1_000_000,
    "evaluate": {"holdout": 0},
}


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--readers", type=int, default=200)
    parser.add_argument("--submitters", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--base", default="bundled")
    parser.add_argument("--out", type=Path, default=Path("docs/results/load.json"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        port = free_port()
        life = Life(
            Path(place) / "data", port, Path(place) / "log", {"base": options.base, "requests_per_second": 10_000}
        )
        with Client(f"http://127.0.0.1:{port}") as client:
            try:
                life.ready(client)
                found = _measured(client, life.pid, options)
            finally:
                code = life.end()
        found["errors_in_log"] = sum(" ERROR " in line for line in (Path(place) / "log").read_text().splitlines())
    found |= {"exit_code": code, "machine": description(torch.device("cpu")), "base": options.base}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps({key: found[key] for key in found if key != "rounds"}, indent=2))  # noqa: T201


def _measured(client: Client, server: int, options: argparse.Namespace) -> dict[str, Any]:
    rows = [
        {"text": f"{'good' if i % 3 else 'bad'} thing number {i}", "label": "no" if i % 3 else "ok"}
        for i in range(200)
    ]
    dataset = client.post("/datasets", {"rows": rows, "name": "rows"})["id"]
    task = {"template": "{text} =>", "options": {"ok": "yes", "no": "no"}}
    job = client.post("/jobs", {"dataset": dataset, "profile": LONG, "task": task, "priority": 100})["id"]
    while client.get(f"/jobs/{job}")["step"] < 20:
        time.sleep(0.1)
    rounds = []
    process = psutil.Process(server)
    for _ in range(options.rounds):
        quiet = _speed(client, job, options.seconds)
        crowd = subprocess.Popen(
            [
                *("nice", "-n", "15", sys.executable, "-m", "benchmarks.crowd", client.url, job, dataset),
                *("--readers", str(options.readers), "--submitters", str(options.submitters)),
                *("--seconds", str(options.seconds + 2 * SETTLE_S)),
            ],
            stdout=subprocess.PIPE,
        )
        time.sleep(SETTLE_S)
        loud = _speed(client, job, options.seconds)
        output, _ = crowd.communicate()
        time.sleep(SETTLE_S)
        rounds.append(
            {"quiet": quiet, "loud": loud, "rss_mib": process.memory_info().rss >> 20, **json.loads(output)}
        )
        print(json.dumps(rounds[-1]), file=sys.stderr)  # noqa: T201
    return {
        "quiet_steps_per_second": round(median(one["quiet"] for one in rounds), 2),
        "loud_steps_per_second": round(median(one["loud"] for one in rounds), 2),
        "speed_ratio": round(median(one["loud"] / one["quiet"] for one in rounds), 3),
        "loud_seconds": options.rounds * options.seconds,
        "errors": sum(sum(one["errors"].values()) for one in rounds),
        "requests": sum(one["requests"] for one in rounds),
        "request_p99_s": max(one["request_p99_s"] for one in rounds),
        "rss_growth_mib": rounds[-1]["rss_mib"] - rounds[0]["rss_mib"],
        "rounds": rounds,
    }


def _speed(client: Client, job: str, seconds: float) -> float:
    """Steps a second, measured over some seconds."""
    first, began = client.get(f"/jobs/{job}")["step"], time.monotonic()
    time.sleep(seconds)
    last = client.get(f"/jobs/{job}")["step"]
    return float((last - first) / (time.monotonic() - began))


if __name__ == "__main__":
    main()
