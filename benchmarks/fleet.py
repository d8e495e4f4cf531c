"""A fleet of short jobs for `benchmarks.chaos`, and what an undisturbed server makes of each."""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.lives import Life, free_port
from server.commands.client import Client
from steerzo_edge.errors import SteerzoError

FINAL = ("succeeded", "failed", "cancelled")
FIXED = {"epsilon": 0.01}
METHODS: dict[str, dict[str, Any]] = {
    "two-point, sgd": {"method": {"kind": "two-point", **FIXED}, "rule": {"kind": "sgd"}},
    "all-losses, momentum": {"method": {"kind": "all-losses", "pool": 4, **FIXED}, "rule": {"kind": "momentum"}},
    "guiding vector, adam": {
        "method": {"kind": "guiding-vector", "pool": 4, "history": "keep-best", **FIXED},
        "rule": {"kind": "adam"},
    },
    "exact gradients": {"method": {"kind": "exact"}, "rule": {"kind": "adam"}},
    "hybrid": {
        "subset": {"kind": "lora", "rank": 2, "last_layers": 2},
        "method": {
            "kind": "hybrid",
            "exact_layers": 1,
            "learning_rate": 0.03,
            "estimator": {"kind": "all-losses", "pool": 4, **FIXED},
        },
        "rule": {"kind": "adam"},
    },
}


@dataclass(frozen=True, slots=True)
class Fleet:
    """The jobs, and the result that each must have.

    Args:
        bodies: Requests by name.
        rows: Their training rows.
        expected: By name: the adapter's hash, and the loss of every step.
    """

    bodies: dict[str, dict[str, Any]]
    rows: list[dict[str, Any]]
    expected: dict[str, tuple[str, list[float]]]


def fleet_of(root: Path, options: argparse.Namespace) -> Fleet:
    """Makes the jobs and runs each of them on a server that nothing disturbs.

    Raises:
        SteerzoError: If the server does not start, or a job fails.
    """
    rows = [
        {"text": f"{'good' if i % 3 else 'bad'} number {i}", "label": "no" if i % 3 else "ok"} for i in range(60)
    ]
    kinds = list(METHODS)
    bodies = {
        f"job {index}": {
            "profile": {
                "subset": {"kind": "lora", "rank": 2, "last_layers": 1},
                **METHODS[kinds[index % len(kinds)]],
                "batch": {"examples": 4, "max_tokens": 48},
                "steps": options.steps,
                "evaluate": {"every": 15, "holdout": 0.2},
            },
            "overrides": {"rule.learning_rate": 0.01},
            "task": {"template": "{text} =>", "options": {"ok": "yes", "no": "no"}},
            "seed": index,
        }
        for index in range(options.jobs)
    }
    log = root / "calm.log"
    life = Life(root / "calm", port := free_port(), log, settings_of(options))
    expected = {}
    with Client(f"http://127.0.0.1:{port}") as client:
        try:
            if not life.ready(client):
                raise SteerzoError("the undisturbed server did not start", hint=f"See {log}.")
            dataset = client.post("/datasets", {"rows": rows, "name": "rows"})["id"]
            made = {name: client.post("/jobs", {"dataset": dataset, **body})["id"] for name, body in bodies.items()}
            for name, id in made.items():
                while (job := client.get(f"/jobs/{id}"))["state"] not in FINAL:
                    time.sleep(0.05)
                if job["state"] != "succeeded":
                    raise SteerzoError(f"{name} failed undisturbed: {job['error']}")
                expected[name] = (job["adapter"]["sha256"], losses_of(client, id))
        finally:
            life.end()
    return Fleet(bodies, rows, expected)


def settings_of(options: argparse.Namespace) -> dict[str, Any]:
    """The server's settings in every life: many snapshots, and retries that do not take long."""
    return {"base": options.base, "snapshot_every": 7, "retry_delay_s": 0.2, "retry_attempts": 100}


def losses_of(client: Client, job: str) -> list[float]:
    """The losses in the order of steps; one that is missing or there twice moves all that follow."""
    return [step["loss"] for step in client.get(f"/jobs/{job}/metrics")["steps"]]
