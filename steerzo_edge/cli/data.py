"""`steerzo data check`: the check of a server's upload, without a server."""

import json
from pathlib import Path
from typing import Any

import typer

from steerzo_edge.cli.options import read_file
from steerzo_edge.cli.output import EXIT_BAD_INPUT
from steerzo_edge.data.remarks import ignored_sentence
from steerzo_edge.data.statistics import statistics
from steerzo_edge.errors import InputError
from steerzo_edge.estimate import load_config
from steerzo_edge.model.load import load_tokenizer
from steerzo_edge.model.positions import context_of

SHOWN_LABELS = 20


def check_command(
    *,
    file: Path,
    benchmark: str | None,
    format: str | None,
    map: str | None,
    base: str,
    max_tokens: int | None,
    allow_control_tokens: bool,
    as_json: bool,
) -> None:
    """Prints what the file holds; if rows cannot be used, prints their faults and exits with code 2."""
    try:
        dataset = read_file(file, None, benchmark, format, map)
        longest = max_tokens or context_of(load_config(base))
        facts = statistics(dataset, load_tokenizer(base, allow_control_tokens=allow_control_tokens), longest)
    except InputError as error:
        _print_error(error, as_json)
        raise typer.Exit(EXIT_BAD_INPUT) from None
    if as_json:
        typer.echo(json.dumps({"ok": True, **facts}))
        return
    for line in _sentences(file.name, facts):
        typer.echo(line)


def _print_error(error: InputError, as_json: bool) -> None:
    if as_json:
        faults = [fault.as_dict() for fault in error.faults]
        body = {"ok": False, "code": error.code, "detail": str(error), "hint": error.hint, "errors": faults}
        typer.echo(json.dumps(body))
        return
    typer.secho(f"error: {error}", fg="red", err=True)
    for fault in error.faults:
        typer.echo(f"  {fault}", err=True)
    typer.echo(f"hint: {error.hint}", err=True)


def _sentences(name: str, facts: dict[str, Any]) -> list[str]:
    """The statistics of a file in sentences."""
    lines = [f"{name}: {facts['rows']:,} rows, {facts['format']}, {facts['container']}"]
    if facts["ignored"]:
        lines.append(ignored_sentence(facts["ignored"]))
    lines += [f"warning: {warning}" for warning in facts["warnings"]]
    if "balance" in facts:
        counts = sorted(facts["balance"].items(), key=lambda pair: -pair[1])
        more = f" and {len(counts) - SHOWN_LABELS} more" if len(counts) > SHOWN_LABELS else ""
        lines.append("labels: " + ", ".join(f"{label} {rows:,}" for label, rows in counts[:SHOWN_LABELS]) + more)
    if "tokens" in facts:
        tokens = facts["tokens"]
        lines.append(f"tokens: {tokens['total']:,} in all, {tokens['targets']:,} of them learned")
        lines.append(
            f"tokens of a row: {tokens['mean']} on average, half have up to {tokens['p50']}, 95% up to "
            f"{tokens['p95']}, the longest has {tokens['longest']}"
        )
        lines.append("lengths: " + ", ".join(f"up to {b['upto']}: {b['rows']:,}" for b in facts["lengths"]))
        lines.append(f"{facts['truncated']:,} rows are cut on the left to {facts['max_tokens']:,} tokens")
    if "sequences" in facts:
        lines.append(f"{facts['sequences']:,} sequences of at most {facts['max_tokens']:,} tokens")
    return [*lines, f"{facts['duplicates']:,} rows are the same as an earlier one"]
