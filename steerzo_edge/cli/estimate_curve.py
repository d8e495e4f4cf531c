"""`steerzo estimate --curve`: memory and seconds to a loss of each way to run the job, by a short probe."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import typer
from rich.console import Console
from rich.table import Table

from steerzo_edge.cli.packed_cache import user_cache
from steerzo_edge.curve import Curve, CurvePoint, measured_curve
from steerzo_edge.curve.picture import check_picture, draw
from steerzo_edge.curve.words import MIB, duration, notes, seconds_in_words, title
from steerzo_edge.data.examples import Dataset
from steerzo_edge.errors import InputError
from steerzo_edge.estimate import (
    anatomy,
    description,
    free_bytes,
    load_config,
    product_speed,
    ways_of,
    ways_to_run,
    work_of,
)
from steerzo_edge.estimate.plan import RUNTIME_BYTES
from steerzo_edge.model.load import default_device, load_tokenizer
from steerzo_edge.model.positions import context_of
from steerzo_edge.run_data import rows_of_run
from steerzo_edge.settings.memory import memory_bytes
from steerzo_edge.settings.profile import Profile, resolve

# Rows that an evaluation of the probe has at most.
JUDGED = 128


@dataclass(frozen=True, slots=True)
class CurveWish:
    """What is asked of the curve.

    Args:
        seconds: That the probe may take.
        loss: To be reached; None takes the lowest that a probe reaches.
        picture: Path of a picture, or None.
    """

    seconds: float
    loss: float | None
    picture: Path | None


def curve_command(
    profile: Profile, rows: Dataset | None, wish: CurveWish, remarks: Sequence[str], *, as_json: bool
) -> None:
    """Measures the ways, prints them as a table or as JSON, and draws them.

    Args:
        profile: The settings.
        rows: Of the dataset; some are set aside to evaluate on.
        wish: What is asked.
        remarks: Sentences on the rows, for the JSON.
        as_json: Print JSON instead of a table.

    Raises:
        InputError: If there are no rows, none to evaluate on, or the picture cannot be drawn.
    """
    if rows is None:
        raise InputError("--curve takes real steps, so it needs rows", hint="Give a --dataset.")
    if wish.picture is not None:
        check_picture(wish.picture)
    curve = _curve(profile, rows, wish.seconds, wish.loss)
    if wish.picture is not None:
        draw(curve, wish.picture)
    if as_json:
        typer.echo(json.dumps(_document(curve) | {"warnings": list(remarks)}))
        return
    Console(width=110).print(_table(curve))
    for note in notes(curve):
        typer.echo(note)
    if wish.picture is not None:
        typer.echo(f"picture: {wish.picture}")


def _curve(profile: Profile, rows: Dataset, seconds: float, loss: float | None) -> Curve:
    # The loss is what is looked at, so no answers are generated; nothing intervenes in so few steps.
    quiet = {
        "evaluate.examples": min(JUDGED, profile.evaluate.examples),
        "evaluate.generate": 0,
        "evaluate.every": profile.steps,
        "watch.enabled": False,
    }
    profile = resolve(profile.model_dump(mode="json"), quiet)
    config = load_config(profile.model.id, profile.model.revision)
    context = context_of(config)
    tokenizer = load_tokenizer(profile.model.id, profile.model.revision)
    _, judged, data = rows_of_run(tokenizer, context, profile, rows, None, 0)
    if judged is None or data.validation is None:
        raise InputError(
            "--curve needs rows to evaluate on", hint="Set evaluate.holdout above 0, or give more rows."
        )
    body = anatomy(config)
    device = torch.device(default_device())
    size = memory_bytes(profile.memory)
    free = free_bytes(device)
    free = free if size is None else min(free, size - RUNTIME_BYTES)
    speed = product_speed(body, profile.model.quantization, profile.model.dtype, device)
    work = work_of(profile, context, data.train, data.validation)
    ways = ways_of(profile, body, work, speed, device=device.type, free=free)
    return measured_curve(
        list(zip(ways, ways_to_run(profile, body), strict=True)),
        data,
        name=f"{Path(profile.model.id).name} in {profile.model.quantization}",
        machine=description(device),
        limit=free + RUNTIME_BYTES,
        loss=loss,
        seconds=seconds,
        cache=user_cache(),
        say=lambda text: typer.echo(f"probe: {text}", err=True),
    )


def _document(curve: Curve) -> dict[str, Any]:
    found = asdict(curve)
    for point, own in zip(curve.points, found["points"], strict=True):
        own["seconds"] = point.seconds
    return found


def _table(curve: Curve) -> Table:
    table = Table(title=f"{curve.base} on {curve.machine}")
    table.add_column("way")
    for column in ("peak, MiB", "seconds a step", "search", "steps to the loss", "time to the loss"):
        table.add_column(column, justify="right")
    for point in curve.points:
        table.add_row(title(point), *_cells(point), seconds_in_words(point))
    return table


def _cells(point: CurvePoint) -> tuple[str, str, str, str]:
    size = f"{point.bytes / MIB:,.0f}{'' if point.peak is not None else ' (estimate)'}"
    step = "-" if point.step_s is None else f"{point.step_s:.3g} (of {point.timed})"
    search = "-" if not point.search_s else duration(point.search_s)
    steps = "-"
    if point.reach.steps is not None and point.fits:
        steps = f"{'at least ' if point.reach.how == 'at-least' else ''}{point.reach.steps:,.0f}"
    return size, step, search, steps
