"""Evaluates a base on rows, zero-shot and with solved examples (demonstrations) before each row."""

import time
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch

from steerzo_edge.data.examples import Dataset
from steerzo_edge.data.in_context import with_demonstrations
from steerzo_edge.data.kinds import tokenize
from steerzo_edge.data.tokens import prompt_tokens
from steerzo_edge.model.base import Base
from steerzo_edge.model.patches import Patches
from steerzo_edge.objectives.evaluation import Evaluation, evaluate
from steerzo_edge.seeds import derive_seed


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
