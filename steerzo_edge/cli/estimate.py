"""`steerzo estimate`: memory and time of a run, and whether back-propagation would be the better choice.

It loads no weights, except with `--probe`, which times a layer of the base.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
import typer
from rich.console import Console
from rich.table import Table
from transformers import PretrainedConfig

from steerzo_edge.cli.options import base_settings, parsed_settings, parsed_task, read_file
from steerzo_edge.cli.packed_cache import user_cache
from steerzo_edge.data.examples import Dataset
from steerzo_edge.errors import InputError
from steerzo_edge.estimate import (
    Anatomy,
    MemoryEstimate,
    MemoryNeeds,
    Speed,
    Work,
    advice,
    anatomy,
    estimate,
    free_bytes,
    load_config,
    product_speed,
    run_effort,
    survey,
    trained_by,
    work_of,
)
from steerzo_edge.model.load import default_device, load_base, load_tokenizer
from steerzo_edge.model.positions import context_of
from steerzo_edge.run_data import tokenized
from steerzo_edge.settings.profile import Profile, load_profile


def estimate_command(
    *,
    profile: str,
    dataset: Path | None,
    base: str | None,
    template: str | None,
    options: Path | None,
    benchmark: str | None,
    format: str | None,
    settings: Sequence[str],
    probe: bool,
    as_json: bool,
) -> None:
    """Prints the bytes of each part, forwards and seconds, and the advice."""
    chosen = load_profile(profile, parsed_settings(settings) | base_settings(base, None))
    task = parsed_task(template, options)
    if dataset is None and (task or benchmark):
        raise InputError(
            "--task, --template and --options describe how rows are read", hint="Give a --dataset too."
        )
    data = None if dataset is None else read_file(dataset, task, benchmark, format)
    config = load_config(chosen.model.id, chosen.model.revision)
    work = _work(chosen, config, data)
    device = torch.device(default_device())
    body = anatomy(config)
    found = estimate(chosen, body, work, device=device.type)
    effort = run_effort(chosen, body, trained_by(chosen, body), work)
    seconds = effort.seconds(_probed(chosen) if probe else _multiplied(chosen, body, device))
    source = "a decoder layer" if probe else "a single product, a lower bound"
    free = free_bytes(device)
    words = advice(found, free, differentiable=chosen.objective.differentiable)
    if as_json:
        columns = {field: dict(needs) | {"total": needs.total} for field, (_, needs) in _columns(found).items()}
        spent: dict[str, object] = {
            "forwards": effort.forwards,
            "evaluations": effort.evaluations,
            "seconds": round(seconds, 1),
        }
        spent |= {"source": "layer" if probe else "product"}
        fits = found.zeroth_order.total <= free
        totals: dict[str, object] = {"free": free, "fits": fits, "tokens": work.tokens, **spent, "advice": words}
        typer.echo(json.dumps({**columns, **totals}))
        return
    rows = "of this dataset" if dataset else "as long as the profile allows"
    typer.echo(
        f"{chosen.model.id} in {chosen.model.quantization}: {work.examples} rows {rows}, {work.tokens:,} tokens"
    )
    Console(width=100).print(_table(found))
    typer.echo(f"{effort.forwards:,} forwards and {effort.evaluations} evaluations: about {_time(seconds)} here")
    typer.echo(f"(from the measured time of {source}).")
    typer.echo(words)


def _probed(profile: Profile) -> Speed:
    """Loads the base and measures this machine's speed with it."""
    model = profile.model
    base = load_base(
        model.id,
        quantization=model.quantization,
        compute_dtype=model.dtype,
        revision=model.revision,
        cache=user_cache(),
    )
    return survey(base).speed


def _multiplied(profile: Profile, body: Anatomy, device: torch.device) -> Speed:
    return product_speed(body, profile.model.quantization, profile.model.dtype, device)


def _time(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} h"


def _work(profile: Profile, config: PretrainedConfig, rows: Dataset | None) -> Work:
    context = context_of(config)
    if rows is None:
        return work_of(profile, context)
    tokenizer = load_tokenizer(profile.model.id, profile.model.revision)
    return work_of(profile, context, tokenized(tokenizer, context, profile, rows, None, 0).train)


def _columns(found: MemoryEstimate) -> dict[str, tuple[str, MemoryNeeds]]:
    return {
        "zeroth_order": ("this run", found.zeroth_order),
        "lean": ("at its leanest", found.lean),
        "exact": ("back-propagation", found.exact),
        "checkpointed": ("with checkpointing", found.checkpointed),
    }


def _table(found: MemoryEstimate) -> Table:
    table = Table("MiB")
    columns = list(_columns(found).values())
    for title, _ in columns:
        table.add_column(title, justify="right")
    names = dict.fromkeys(name for _, needs in columns for name in needs)
    for name in names:
        if any(needs.get(name) for _, needs in columns):
            table.add_row(name, *(_mib(needs.get(name, 0)) for _, needs in columns))
    table.add_section()
    table.add_row("total", *(_mib(needs.total) for _, needs in columns))
    return table


def _mib(size: int) -> str:
    return f"{size / (1 << 20):,.1f}" if size else "-"
