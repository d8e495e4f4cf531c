"""`steerzo demo`: a whole fine-tuning job against a server process on this machine.

Uploads the bundled commands, posts a job, follows its events, and gives base and adapter the same prompts. The test
rows only measure the result: nothing is trained on them, and no version is chosen by them.
"""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

import steerzo_edge
from server.commands.client import Client
from steerzo_edge.cli.output import clock, display
from steerzo_edge.errors import InputError, SteerzoError

INTENTS = Path(steerzo_edge.__file__).parent / "assets" / "intents"
REAL_BASE = Path(steerzo_edge.__file__).parents[1] / ".real" / "SmolLM2-135M-Instruct.Q4_1.gguf"
START_S = 120
PROFILE, REAL_PROFILE = "cpu-demo", "cpu-135m"
REAL_TEMPLATE = "{text}\nTopic:"


def demo_command(data_dir: Path, steps: int | None, base: str | None) -> None:
    """Runs the demo and prints what happened.

    Args:
        data_dir: Data directory of the demo's server.
        steps: Number of steps; None takes the profile's.
        base: A real base, which is trained with the settings for one; None is the bundled base.

    Raises:
        SteerzoError: If the server does not start or the job fails.
    """
    profile = PROFILE if base is None else REAL_PROFILE
    with _server(data_dir, base) as client:
        ready = client.get("/readyz")
        typer.echo(f"server ready: base {ready['base']} in {ready['quantization']} on {ready['device']}")
        train, test = (client.upload(INTENTS / f"{part}.jsonl", f"intents-{part}") for part in ("train", "test"))
        typer.echo(f"uploaded {train['rows']} commands to train on, {test['rows']} others to test with")
        task = json.loads((INTENTS / "task.json").read_text())
        if base is not None:
            task["template"] = REAL_TEMPLATE
        job = client.post("/jobs", _job(train["id"], test, task, profile, steps))
        method = job["profile"]["method"]
        typer.echo(f"posted {job['id']}: {job['steps']} steps of {method['kind']}, forward passes only\n")
        started = time.monotonic()
        _follow(client, job)
        job = client.get(f"/jobs/{job['id']}")
        _conclude(job, test["rows"], time.monotonic() - started)
        _side_by_side(client, job["id"], task)
    typer.echo(f"the adapter is in {data_dir}/jobs/{job['id']}/adapter; `steerzo generate --adapter` uses it")


def real_base(base: str | None) -> str:
    """The base of `--real`: the given one, or what `make real-base` has fetched.

    Raises:
        InputError: If nothing is given and nothing was fetched; the hint says how to get it.
    """
    if base is not None:
        return base
    if not REAL_BASE.is_file():
        raise InputError(
            f"there is no real model at {str(REAL_BASE)!r}",
            hint="In a clone `make real-base` fetches it (98 MB). Or name a file, directory or hub id with --base.",
        )
    return str(REAL_BASE)


def _job(train: str, test: dict[str, Any], task: dict[str, Any], profile: str, steps: int | None) -> dict[str, Any]:
    overrides: dict[str, Any] = {"evaluate.examples": test["rows"], "evaluate.keep": "last"}
    if steps is not None:
        overrides["steps"] = steps
    return {"dataset": train, "validation": test["id"], "task": task, "profile": profile, "overrides": overrides}


def _follow(client: Client, job: dict[str, Any]) -> None:
    with display(job["steps"], as_json=False) as shown:
        for kind, data in client.events(job["id"]):
            if kind in ("step", "eval", "tune", "watch"):
                shown.show(kind, data)
            elif kind == "state" and data["state"] == "failed":
                raise SteerzoError(f"the job failed: {data['error']['detail']}", hint=data["error"]["hint"])


def _conclude(job: dict[str, Any], rows: int, seconds: float) -> None:
    before, after = job["before"], job["metrics"]
    typer.echo(f"\njob {job['state']} in {clock(seconds)}, {job['forwards']} forward passes, no gradient computed")
    typer.echo(f"accuracy on {rows} commands that were not trained on:")
    typer.echo(f"  before  {before['accuracy']:.3f}  (the base with the same prompt; chance is 0.143)")
    typer.echo(f"  after   {after['accuracy']:.3f}\n")


def _side_by_side(client: Client, job: str, task: dict[str, Any]) -> None:
    table = Table(title="The same prompts, the same base model, with and without the adapter")
    for column in ("command", "base", "adapter", "correct answer"):
        table.add_column(column)
    for text, label in _one_of_each():
        body = {"prompt": task["template"].replace("{text}", text), "max_new_tokens": 1}
        base, adapted = (
            client.post("/generate", {**body, "adapter": name})["text"].strip() for name in (None, job)
        )
        right = task["options"][label]
        mark = "[green]" if adapted == right else "[red]"
        table.add_row(text, base, f"{mark}{adapted}", right)
    Console().print(table)


def _one_of_each() -> Iterator[tuple[str, str]]:
    seen = set()
    for line in (INTENTS / "test.jsonl").read_text().splitlines():
        row = json.loads(line)
        if row["label"] not in seen:
            seen.add(row["label"])
            yield row["text"], row["label"]


def _failure(log: Path) -> SteerzoError:
    """Why the server did not start, in the words that it left in its log."""
    said = dict(
        line.split(": ", 1)
        for line in log.read_text(errors="replace").splitlines()
        if line.startswith(("error: ", "hint: "))
    )
    reason = f": {said['error']}" if "error" in said else ""
    return SteerzoError(f"the server did not start{reason}", hint=said.get("hint", f"Its log is {log}."))


@contextmanager
def _server(data_dir: Path, base: str | None) -> Iterator[Client]:
    """Runs a server process for the demo, and ends it."""
    data_dir.mkdir(parents=True, exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "server", "serve", "--port", str(port), "--data-dir", str(data_dir)]
    command += [] if base is None else ["--base", base]
    log = data_dir / "server.log"
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            with Client(f"http://127.0.0.1:{port}") as client:
                deadline = time.monotonic() + START_S
                while not client.ready():
                    if process.poll() is not None or time.monotonic() > deadline:
                        raise _failure(log)
                    time.sleep(0.2)
                yield client
        finally:
            process.terminate()
            process.wait(30)
