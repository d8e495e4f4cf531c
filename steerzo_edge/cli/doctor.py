"""`steerzo doctor`: what this machine has, whether quantized products are right, and what to do if not."""

import json
from dataclasses import asdict

import typer

from steerzo_edge.cli import findings
from steerzo_edge.cli.output import EXIT_FAILED

WORDS = {"ok": "ok  ", "warning": "warn", "failed": "FAIL"}


def doctor_command(*, as_json: bool) -> None:
    """Prints every finding; exit code 1 if one of them stands in the way."""
    stopped = False
    for finding in findings.examined():
        stopped = stopped or not finding.ok
        if as_json:
            typer.echo(json.dumps({**asdict(finding), "ok": finding.ok}))
            continue
        typer.echo(f"{WORDS[finding.verdict]} {finding.what}: {finding.found}")
        if finding.fix:
            typer.echo(f"     {finding.fix}")
    if stopped:
        raise typer.Exit(EXIT_FAILED)
