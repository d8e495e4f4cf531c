"""`steerzo evaluate`: evaluates a base on rows, with or without an adapter, zero-shot and with solved examples."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from steerzo_edge.cli.options import check_adapter_directory, parsed_task, read_file
from steerzo_edge.cli.packed_cache import loaded_base, user_cache
from steerzo_edge.cli.remarks import FileOfRows, print_remarks, remarks_of
from steerzo_edge.errors import InputError
from steerzo_edge.model.adapter_file import load_adapter
from steerzo_edge.objectives.shots import Setting, in_context, labels_of, measured, thinned
from steerzo_edge.settings.sections import ModelConfig


def evaluate_command(
    *,
    dataset: Path,
    benchmark: str | None,
    format: str | None,
    map: str | None,
    template: str | None,
    options: Path | None,
    adapter: Path | None,
    base: str,
    revision: str | None,
    quantization: str,
    examples: int,
    shots: int,
    demonstrations: Path | None,
    seed: int,
    allow_control_tokens: bool,
    as_json: bool,
) -> None:
    """Reads all input first, so that bad input is reported before the base is loaded; then evaluates."""
    if (shots > 0) != (demonstrations is not None):
        raise InputError("--shots and --demonstrations must be given together", hint="Give both, or neither.")
    if adapter is not None:
        check_adapter_directory(adapter)
    model = ModelConfig.parse({"id": base, "revision": revision, "quantization": quantization}, where="options")
    task = parsed_task(template, options)
    rows = read_file(dataset, task, benchmark, format, map)
    pool = None if demonstrations is None else read_file(demonstrations, task, benchmark, format, map)
    loaded = loaded_base(model, user_cache(), allow_control_tokens=allow_control_tokens)
    files = [(dataset, rows)] + ([] if demonstrations is None or pool is None else [(demonstrations, pool)])
    remarks = remarks_of(FileOfRows.read_by(loaded.tokenizer, path, read) for path, read in files)
    print_remarks(remarks, as_json=as_json)
    patches = None if adapter is None else load_adapter(adapter, loaded)
    rows, room = thinned(rows, examples, seed), loaded.context_length
    settings = [Setting(rows, 0, labels_of(rows, pool))]
    if pool is not None:
        settings.append(in_context(loaded, rows, pool, shots, seed=seed, room=room))
    found = [measured(loaded, setting, room, patches) for setting in settings]
    if as_json:
        for result in found:
            typer.echo(json.dumps(result | {"warnings": remarks}))
    else:
        _show(found, f"{dataset.name}{f' as {benchmark}' if benchmark else ''}")


def _show(results: Sequence[dict[str, Any]], title: str) -> None:
    names = list(results[0]["metrics"])
    main = results[0]["metric"]
    table = Table(title=title)
    for column in ("shots", "rows", *(f"{name.replace('_', ' ')}{' *' if name == main else ''}" for name in names)):
        table.add_column(column, justify="right")
    for column in ("loss", "cut", "seconds"):
        table.add_column(column, justify="right")
    for result in results:
        metrics = [f"{result['metrics'][name]:.3f}" for name in names]
        rest = (f"{result['loss']:.4f}", str(result["truncated"]), f"{result['seconds']:.1f}")
        table.add_row(f"{result['shots']:g}", str(result["examples"]), *metrics, *rest)
    Console().print(table)
    if main is not None:
        typer.echo("* the main metric of these rows; cut: rows cut on the left to fit the context")
