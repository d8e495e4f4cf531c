"""`steerzo doctor`: checks this machine and its quantized products, and says how to fix what is wrong."""

import json
from dataclasses import asdict

import typer

from steerzo_edge.cli import findings
from steerzo_edge.cli.output import EXIT_FAILED

WORDS = {"ok": "ok  ", "warning": "warn", "failed": "FAIL"}


def doctor_command(*, as_json: bool) -> None:
    """Prints every finding; exits with code 1 if one of them has failed."""
    has_failed = False
    for finding in findings.examined():
        has_failed = has_failed or not finding.ok
        if as_json:
            typer.echo(json.dumps({**asdict(finding), "ok": finding.ok}))
            continue
        typer.echo(f"{WORDS[finding.verdict]} {finding.what}: {finding.found}")
        if finding.fix:
            typer.echo(f"     {finding.fix}")
    if has_failed:
        raise typer.Exit(EXIT_FAILED)
