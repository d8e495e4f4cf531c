"""`steerzo estimate`: memory and time of a run, and whether back-propagation would be the better choice.

It loads no weights, except with `--probe`, which times a layer of the base.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
import typer
from rich.console import Console
from rich.table import Table
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from steerzo_edge.cli.estimate_curve import CurveWish, curve_command
from steerzo_edge.cli.options import base_settings, parsed_settings, parsed_task, read_file
from steerzo_edge.cli.packed_cache import loaded_base, user_cache
from steerzo_edge.cli.remarks import FileOfRows, print_remarks, remarks_of
from steerzo_edge.data.examples import Dataset
from steerzo_edge.errors import InputError
from steerzo_edge.estimate import (
    Anatomy,
    Effort,
    MemoryEstimate,
    MemoryNeeds,
    Speed,
    Way,
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
    ways_of,
    work_of,
)
from steerzo_edge.estimate import chosen as choose
from steerzo_edge.model.load import default_device, load_tokenizer
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
    map: str | None,
    settings: Sequence[str],
    probe: bool,
    curve: CurveWish | None,
    as_json: bool,
) -> None:
    """Prints the bytes of each part, forwards and seconds, and the advice."""
    chosen = load_profile(profile, parsed_settings(settings) | base_settings(base, None))
    task = parsed_task(template, options)
    if dataset is None and (task or benchmark):
        raise InputError(
            "--task, --template and --options describe how rows are read", hint="Give a --dataset too."
        )
    data = None if dataset is None else read_file(dataset, task, benchmark, format, map)
    tokenizer = None if data is None else load_tokenizer(chosen.model.id, chosen.model.revision)
    remarks = _remarks(dataset, data, tokenizer)
    print_remarks(remarks, as_json=as_json)
    if curve is not None:
        curve_command(chosen, data, curve, remarks, as_json=as_json)
        return
    config = load_config(chosen.model.id, chosen.model.revision)
    work = _work(chosen, config, data, tokenizer)
    device = torch.device(default_device())
    body = anatomy(config)
    choice = choose(chosen, body, work, device=device.type)
    chosen = chosen if choice is None else choice.profile
    found = estimate(chosen, body, work, device=device.type)
    effort = run_effort(chosen, body, trained_by(chosen, body), work)
    speed = _probed(chosen) if probe else _multiplied(chosen, body, device)
    seconds = effort.seconds(speed)
    source = "a decoder layer" if probe else "a single product, a lower bound"
    free = free_bytes(device)
    exact = chosen.method.needs_gradients
    words = advice(found, free, differentiable=chosen.objective.differentiable, exact=exact)
    words = words if choice is None else choice.sentence
    ways = ways_of(chosen, body, work, speed, device=device.type, free=free)
    if as_json:
        spent: dict[str, object] = {"seconds": round(seconds, 1), "source": "layer" if probe else "product"}
        others = {"free": free, "tokens": work.tokens, **spent, "advice": words, "warnings": remarks}
        typer.echo(json.dumps({**_document(found, effort, ways, free), **others}))
        return
    rows = "of this dataset" if dataset else "as long as the profile allows"
    typer.echo(
        f"{chosen.model.id} in {chosen.model.quantization}: {work.examples} rows {rows}, {work.tokens:,} tokens"
    )
    Console(width=100).print(_table(found))
    typer.echo(f"{effort.forwards:,} forwards and {effort.evaluations} evaluations: about {_time(seconds)} here")
    typer.echo(f"(from the measured time of {source}).")
    Console(width=100).print(_side_by_side(ways))
    typer.echo(words)


def _remarks(path: Path | None, rows: Dataset | None, tokenizer: PreTrainedTokenizerBase | None) -> list[str]:
    if path is None or rows is None or tokenizer is None:
        return []
    return remarks_of([FileOfRows.read_by(tokenizer, path, rows)])


def _document(found: MemoryEstimate, effort: Effort, ways: list[Way], free: int) -> dict[str, object]:
    columns = {field: dict(needs) | {"total": needs.total} for field, (_, needs) in _columns(found).items()}
    return {
        **columns,
        "fits": found.zeroth_order.total <= free,
        "forwards": effort.forwards,
        "evaluations": effort.evaluations,
        "ways": [asdict(way) for way in ways],
    }


def _side_by_side(ways: list[Way]) -> Table:
    table = Table("method", "exact layers", "memory", title="the same job in other ways")
    for title in ("the process, MiB", "seconds a step", "fits"):
        table.add_column(title, justify="right")
    for way in ways:
        fits = "yes" if way.fits else "no"
        layers = str(way.exact_layers)
        table.add_row(way.method, layers, way.memory, f"{way.bytes / (1 << 20):,.0f}", f"{way.seconds:.2f}", fits)
    return table


def _probed(profile: Profile) -> Speed:
    """Loads the base and measures this machine's speed with it."""
    model = profile.model
    base = loaded_base(model, user_cache())
    return survey(base).speed


def _multiplied(profile: Profile, body: Anatomy, device: torch.device) -> Speed:
    return product_speed(body, profile.model.quantization, profile.model.dtype, device)


def _time(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} h"


def _work(
    profile: Profile, config: PretrainedConfig, rows: Dataset | None, tokenizer: PreTrainedTokenizerBase | None
) -> Work:
    context = context_of(config)
    if rows is None or tokenizer is None:
        return work_of(profile, context)
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
