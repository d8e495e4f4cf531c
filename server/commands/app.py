"""The whole `steerzo` command line: the engine's commands, and those that need a server."""

import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from server.commands.chat import chat
from server.commands.jobs import jobs_app
from server.commands.keys import keys_app
from steerzo_edge.cli.app import app as app
from steerzo_edge.cli.output import plain_errors

app.add_typer(jobs_app, name="jobs")
app.add_typer(keys_app, name="keys")
app.command()(chat)


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to bind; 127.0.0.1 by default.")] = None,
    port: Annotated[
        int | None, typer.Option(help="Port to bind; 8000 by default, 0 lets the system choose.")
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Directory for all data; ~/.steerzo by default.")] = None,
    base: Annotated[str | None, typer.Option(help="Hub id or path; the bundled base by default.")] = None,
    base_revision: Annotated[str | None, typer.Option(help="Commit, tag or branch of a hub model.")] = None,
    models_dir: Annotated[
        Path | None, typer.Option(help="If given, a base from this disk must be under this directory.")
    ] = None,
    quantization: Annotated[str | None, typer.Option(help="nf4, fp4, int8, none or gptq.")] = None,
    profile: Annotated[str | None, typer.Option(help="Take the base model from this profile.")] = None,
    tasks_dir: Annotated[
        Path | None, typer.Option(help="Benchmark files that requests may name by their path; none by default.")
    ] = None,
    webhook: Annotated[str | None, typer.Option(help="Address to which the end of every job is reported.")] = None,
) -> None:
    """Serve the HTTP API. Every option is also an environment variable: STEERZO_HOST, STEERZO_BASE, ..."""
    # Set before the imports below, which take seconds: as process 1 of a container, the process ignores signals
    # without a handler. Later, uvicorn shuts down in order and raises the signal again; that also exits with 0.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))

    from server.commands.serve import serve_command

    with plain_errors():
        serve_command(
            os.environ,
            profile=profile,
            host=host,
            port=port,
            data_dir=data_dir,
            base=base,
            base_revision=base_revision,
            models_dir=models_dir,
            quantization=quantization,
            tasks_dir=tasks_dir,
            webhook=webhook,
        )


@app.command()
def demo(
    data_dir: Annotated[Path, typer.Option(help="Data directory of the demo's server.")] = Path("demo-data"),
    steps: Annotated[int | None, typer.Option(min=1, help="Fewer steps for a quick look.")] = None,
    real: Annotated[
        bool, typer.Option("--real", help="With the real model of 135 M that `make real-base` fetches.")
    ] = False,
    base: Annotated[
        str | None, typer.Option(help="With this real model: a GGUF file, a directory or a hub id.")
    ] = None,
) -> None:
    """Start a server, upload the bundled data, train an adapter, and compare it with the base."""
    from server.commands.demo import demo_command, real_base

    with plain_errors():
        demo_command(data_dir, steps, real_base(base) if real or base is not None else None)


def main() -> None:
    """Entry point of the `steerzo` command."""
    app()
