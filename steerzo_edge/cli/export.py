"""`steerzo export`: writes an adapter in another format."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

from steerzo_edge.cli.options import check_adapter_directory
from steerzo_edge.errors import InputError
from steerzo_edge.export.forms import FORMS, export
from steerzo_edge.export.ollama import OllamaOptions, export_ollama
from steerzo_edge.model.adapter_file import read_config


def export_command(
    *,
    adapter: Path,
    format: str,
    out: Path,
    base: str | None,
    revision: str | None,
    ollama: Mapping[str, Any],
    as_json: bool,
) -> None:
    """Writes the requested format; for a merged model, prints how far its predictions differ from the adapter's."""
    if format not in FORMS:
        raise InputError(f"--format {format!r} is not one of {', '.join(FORMS)}")
    options = OllamaOptions(**ollama)
    if format != "ollama" and options != OllamaOptions():
        raise InputError("--system, --num-ctx and --from are for --format ollama")
    check_adapter_directory(adapter)
    settings = read_config(adapter)
    named = base or settings.get("base_model_name_or_path")
    if base is None and revision is None and isinstance(settings.get("revision"), str):
        revision = settings["revision"]  # it belongs to the base that the adapter names
    if not isinstance(named, str):
        raise InputError("the adapter does not name its base", hint="Name it with --base.")
    remark = None
    if format == "ollama":
        made = export_ollama(adapter, out, named, revision=revision, options=options)
        found, remark = made.agreement, made.remark
    else:
        found = export(format, adapter, out, named, revision=revision)
    if as_json:
        agreement = {} if found is None else {**asdict(found), "bound": found.bound}
        agreement |= {} if remark is None else {"remark": remark}
        typer.echo(json.dumps({"out": str(out), "base": named, "format": format, **agreement}))
    elif found is None:
        typer.echo(f"{out}: the adapter of {named} as {format}")
    else:
        typer.echo(
            f"{out}: {named} with the adapter merged in; the adapter changes predictions by {found.effect:.4f} "
            f"nats a token, merging by {found.error:.4f} (at most {found.bound:.4f} is kept)"
        )
    if remark is not None and not as_json:
        typer.echo(f"no TEMPLATE: {remark}")
