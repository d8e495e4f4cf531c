"""`steerzo jobs`: the jobs of a running server, from a terminal or a script."""

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer
from rich.console import Console
from rich.table import Table

from steerzo_edge.cli.output import EXIT_FAILED, AsJson, clock, display, plain_errors
from steerzo_edge.errors import SteerzoError

if TYPE_CHECKING:
    from server.commands.client import Client

jobs_app = typer.Typer(help="Jobs of a running server: watch, pause, resume, cancel.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="A job's id or name.")]
Url = Annotated[
    str, typer.Option(envvar="STEERZO_URL", help="The server's URL; its key is taken from STEERZO_API_KEY.")
]
LOCAL = "http://127.0.0.1:8000"
# The server may be restarted while a job is watched: the command tries to reconnect for this many seconds.
RECONNECT_S = 120.0


@jobs_app.command("list")
def list_jobs(
    state: Annotated[str | None, typer.Option(help="Only jobs in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Most jobs to list.")] = 20,
    as_json: AsJson = False,
    url: Url = LOCAL,
) -> None:
    """List jobs, newest first."""
    with connected(url) as client:
        query = f"/jobs?limit={limit}" + (f"&state={quote(state)}" if state else "")
        jobs = client.get(query)["jobs"]
    if as_json:
        for job in jobs:
            typer.echo(json.dumps(job))
        return
    table = Table(box=None, pad_edge=False)
    for column in ("id", "name", "state", "step", "loss", "left", "waits for"):
        table.add_column(column, no_wrap=column == "id")
    for job in jobs:
        table.add_row(*_cells(job))
    # In a pipe, rows are not wrapped to the width of a terminal.
    Console(width=None if sys.stdout.isatty() else 200).print(table)


@jobs_app.command()
def show(name: Name, url: Url = LOCAL) -> None:
    """Print a job as JSON."""
    with connected(url) as client:
        typer.echo(json.dumps(client.get(_path(name)), indent=2))


@jobs_app.command()
def watch(name: Name, as_json: AsJson = False, url: Url = LOCAL) -> None:
    """Follow a job until it ends; exit code 1 if it fails."""
    with connected(url) as client:
        job = client.get(_path(name))
        with display(job["steps"], as_json=as_json, done=job["step"]) as shown:
            for kind, data in _followed(client, name):
                if kind in ("step", "eval", "tune", "watch"):
                    shown.show(kind, data)
        job = client.get(_path(name))
    if as_json:
        typer.echo(json.dumps({"result": job}))
    else:
        typer.echo(f"job {job['id']} {job['state']} after {job['step']} steps")
    if job["state"] == "failed":
        typer.secho(f"error: {job['error']['detail']}", fg="red", err=True)
        raise typer.Exit(EXIT_FAILED)


@jobs_app.command()
def pause(name: Name, as_json: AsJson = False, url: Url = LOCAL) -> None:
    """Pause a job at the end of its present step; the next job in the queue runs."""
    _request(url, name, "pause", as_json=as_json)


@jobs_app.command()
def resume(name: Name, as_json: AsJson = False, url: Url = LOCAL) -> None:
    """Continue a paused or failed job from its last step."""
    _request(url, name, "resume", as_json=as_json)


@jobs_app.command()
def cancel(name: Name, as_json: AsJson = False, url: Url = LOCAL) -> None:
    """Cancel a job at the end of its present step; its adapter is kept."""
    _request(url, name, "cancel", as_json=as_json)


@jobs_app.command()
def delete(name: Name, url: Url = LOCAL) -> None:
    """Delete a job that is not running, with its events, journal and adapter."""
    with connected(url) as client:
        client.delete(_path(name))


def _request(url: str, name: str, action: str, *, as_json: bool) -> None:
    with connected(url) as client:
        job = client.post(f"{_path(name)}/{action}", {})
    waits = f", waits for {job['waiting_for']}" if job["waiting_for"] else ""
    typer.echo(json.dumps(job) if as_json else f"job {job['id']} is {job['state']}{waits}")


def _followed(client: "Client", name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """A job's events from now on; reconnects after a restart of the server."""
    seen = client.get(_path(name))["step"] - 1
    away_since: float | None = None
    while True:
        try:
            for kind, data in client.events(quote(name, safe=""), last_event_id=seen):
                away_since = None
                if kind == "step":
                    seen = data["step"]
                yield kind, data
            if client.get(_path(name))["state"] in ("succeeded", "failed", "cancelled"):
                return
        except client.UNREACHABLE:
            away_since = away_since or time.monotonic()
            if time.monotonic() - away_since > RECONNECT_S:
                raise
        time.sleep(0.5)


def _cells(job: Mapping[str, Any]) -> list[str]:
    left = job["seconds_left"]
    loss = job["loss"]
    return [
        job["id"],
        job["name"],
        job["state"],
        f"{job['step']}/{job['steps']}",
        "" if loss is None else f"{loss:.4f}",
        "" if left is None else clock(left),
        job["waiting_for"] or "",
    ]


def _path(name: str) -> str:
    return f"/jobs/{quote(name, safe='')}"


@contextmanager
def connected(url: str) -> "Iterator[Client]":
    """A client of a server; errors are printed in one line and end the command.

    Args:
        url: The server's URL.
    """
    import httpx

    from server.commands.client import Client

    with plain_errors(), Client(url, os.environ.get("STEERZO_API_KEY")) as client:
        try:
            yield client
        except httpx.TransportError as error:
            hint = "Start a server with `steerzo serve`, or give its address with --url."
            raise SteerzoError(f"no server answers at {url}: {error}", hint=hint) from None
