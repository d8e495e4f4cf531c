"""`steerzo evaluate`: evaluates a base on rows, with or without an adapter, zero-shot and with solved examples."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
import typer
from rich.console import Console
from rich.table import Table

from steerzo_edge.cli.options import check_adapter_directory, parsed_task, read_file
from steerzo_edge.cli.packed_cache import user_cache
from steerzo_edge.data.examples import Dataset
from steerzo_edge.data.in_context import with_demonstrations
from steerzo_edge.data.kinds import tokenize
from steerzo_edge.data.tokens import prompt_tokens
from steerzo_edge.errors import InputError
from steerzo_edge.model.adapter_file import load_adapter
from steerzo_edge.model.base import Base
from steerzo_edge.model.load import load_base
from steerzo_edge.model.patches import Patches
from steerzo_edge.objectives.evaluation import Evaluation, evaluate
from steerzo_edge.seeds import derive_seed
from steerzo_edge.settings.sections import ModelConfig


@dataclass(frozen=True, slots=True)
class Setting:
    """One evaluation: the rows, and how many demonstrations they have.

    Args:
        rows: The rows, with their demonstrations.
        shots: Demonstrations a row, on average.
        labels: All classes of the data, for labelled rows.
    """

    rows: Dataset
    shots: float
    labels: tuple[str, ...]


def evaluate_command(
    *,
    dataset: Path,
    benchmark: str | None,
    format: str | None,
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
    as_json: bool,
) -> None:
    """Reads all input first, so that bad input is reported before the base is loaded; then evaluates."""
    if (shots > 0) != (demonstrations is not None):
        raise InputError("--shots and --demonstrations must be given together", hint="Give both, or neither.")
    if adapter is not None:
        check_adapter_directory(adapter)
    model = ModelConfig.parse({"id": base, "revision": revision, "quantization": quantization}, where="options")
    task = parsed_task(template, options)
    rows = read_file(dataset, task, benchmark, format)
    pool = None if demonstrations is None else read_file(demonstrations, task, benchmark, format)
    loaded = load_base(
        model.id,
        quantization=model.quantization,
        compute_dtype=model.dtype,
        revision=model.revision,
        cache=user_cache(),
    )
    patches = None if adapter is None else load_adapter(adapter, loaded)
    rows, room = thinned(rows, examples, seed), loaded.context_length
    settings = [Setting(rows, 0, labels_of(rows, pool))]
    if pool is not None:
        settings.append(in_context(loaded, rows, pool, shots, seed=seed, room=room))
    found = [measured(loaded, setting, room, patches) for setting in settings]
    if as_json:
        for result in found:
            typer.echo(json.dumps(result))
    else:
        _show(found, f"{dataset.name}{f' as {benchmark}' if benchmark else ''}")


def thinned(rows: Dataset, examples: int, seed: int) -> Dataset:
    """Picks at most `examples` rows at random, in their original order.

    Args:
        rows: All rows.
        examples: Most rows that are kept.
        seed: Of the choice.
    """
    if len(rows) <= examples:
        return rows
    generator = torch.Generator().manual_seed(derive_seed("evaluate", seed))
    return rows.pick(sorted(torch.randperm(len(rows), generator=generator)[:examples].tolist()))


def labels_of(rows: Dataset, pool: Dataset | None) -> tuple[str, ...]:
    """The classes of the rows and of the demonstrations."""
    return tuple(dict.fromkeys([*rows.labels, *(() if pool is None else pool.labels)]))


def in_context(base: Base, rows: Dataset, pool: Dataset, shots: int, *, seed: int, room: int) -> Setting:
    """Puts solved examples before the rows.

    Args:
        base: The base whose tokens are counted.
        rows: The rows to evaluate.
        pool: The rows that solved examples are taken from.
        shots: Solved examples for each row; fewer if they do not fit.
        seed: Of the choice.
        room: Most tokens of demonstrations, prompt and longest answer together.

    Raises:
        DatasetError: If the formats differ, or the rows are conversations.
        TaskError: If a label has no option.
    """
    found = with_demonstrations(
        rows, pool, shots, seed=seed, length=lambda text: len(prompt_tokens(base.tokenizer, text)), room=room
    )
    return Setting(found.dataset, fmean(found.used), labels_of(rows, pool))


def measured(base: Base, setting: Setting, max_tokens: int, adapter: Patches | None = None) -> dict[str, Any]:
    """Evaluates one setting.

    Args:
        base: The frozen model.
        setting: The rows, and how many demonstrations they have.
        max_tokens: Longest sequence; longer prompts are cut on the left.
        adapter: Patches of one version; None is the bare base.

    Returns:
        JSON-ready: "shots" a row on average, "examples", "truncated" (number of rows that were cut), "loss" in nats
        per target token, "metrics", "metric" and "score" (the main one's name and value), "seconds".

    Raises:
        DatasetError: If a row's target does not fit.
    """
    started = time.perf_counter()
    data = tokenize(setting.rows, base.tokenizer, max_tokens, setting.labels)
    found: Evaluation = evaluate(base, data, adapter, generate=len(data.rows))
    return {
        "shots": round(setting.shots, 2),
        "examples": found.examples,
        "truncated": data.truncated,
        "loss": found.loss,
        "metrics": dict(found.metrics),
        "metric": data.metric,
        "score": found.score,
        "seconds": round(time.perf_counter() - started, 3),
    }


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
