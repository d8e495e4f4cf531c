"""Evaluates an adapter on rows that were not trained on: the mean loss, and the metrics that fit the rows."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from steerzo_edge.data.batches import TargetBatch, collate, forks
from steerzo_edge.data.tokenization import Choices, Targets, Tokenized
from steerzo_edge.model.base import Base
from steerzo_edge.model.patches import Patches
from steerzo_edge.model.prefix import PrefixStore
from steerzo_edge.model.routes import uniform
from steerzo_edge.objectives.greedy_answers import MAX_NEW_TOKENS, greedy_answers, prompt_of
from steerzo_edge.objectives.likelihood import losses, option_loss, option_scores
from steerzo_edge.objectives.metrics import accuracy, balanced_accuracy, binary_f1
from steerzo_edge.objectives.scorers import SCORERS, AnswerScorer

TOKENS = 4096


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The result on a set of rows.

    Args:
        loss: Mean over rows, in nats (per target token, or over the options).
        accuracy: Share of rows whose likeliest option is a right one; None for rows without options.
        examples: Number of rows.
        metrics: Every metric that was computed, by name, in [0, 1].
        score: The main metric of the rows, which evaluations are compared by; None if the loss is.
    """

    loss: float
    accuracy: float | None
    examples: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    score: float | None = None


def evaluate(
    base: Base,
    data: Tokenized,
    adapter: Patches | None = None,
    *,
    prefix: PrefixStore | None = None,
    tokens: int = TOKENS,
    option_mass: float = 0.0,
    generate: int = 32,
    scorers: Mapping[str, AnswerScorer] = SCORERS,
) -> Evaluation:
    """Computes the mean loss, and the metrics that fit the rows.

    Args:
        base: The frozen model.
        data: Rows to evaluate.
        adapter: Patches of one version; None is the bare base.
        prefix: Stores the hidden states that enter the adapter's lowest layer, if that is above the first.
        tokens: Most tokens in one forward.
        option_mass: As in `losses`.
        generate: Most rows whose answers are generated, evenly spread, for rows with a metric on generated text.
        scorers: The scorers that generated answers are given to, by the metric's name.
    """
    loss = 0.0
    chosen = [0] * len(data.rows)
    with torch.inference_mode(), base.bank.route(uniform(adapter)):
        for indices in _chunks([len(row.tokens) for row in forks(data)], tokens):
            batch = collate(data, indices, base.device)
            hidden_states = None if prefix is None else prefix.of(batch.packed)
            if isinstance(batch, TargetBatch):
                loss += float(losses(base, batch, 1, hidden_states)) * len(indices)
                continue
            scores, mass = option_scores(base, batch, 1, hidden_states, with_mass=option_mass > 0)
            # scores: (1, B, C), mass: (1, B)
            loss += float(option_loss(scores, mass, batch.answers, option_mass)) * len(indices)
            for index, choice in zip(batch.indices, scores[0].argmax(-1).tolist(), strict=True):
                chosen[index] = choice
        if not isinstance(data, Targets):
            metrics = _option_metrics(data, chosen)
        elif data.metric is not None and generate > 0:
            metrics = _generated_metrics(base, data, tokens, generate, scorers)
        else:
            metrics = {}
    score = None if data.metric is None else metrics.get(data.metric)
    return Evaluation(loss / len(data.rows), metrics.get("accuracy"), len(data.rows), metrics, score)


def _option_metrics(data: Tokenized, chosen: Sequence[int]) -> dict[str, float]:
    if isinstance(data, Choices):
        right = [row.answer for row in data.rows]
        found = {"accuracy": accuracy(right, chosen), "balanced_accuracy": balanced_accuracy(right, chosen)}
        return found | ({"f1": binary_f1(right, chosen)} if data.metric == "f1" else {})
    assert not isinstance(data, Targets)
    hits = [choice in row.answers for row, choice in zip(data.rows, chosen, strict=True)]
    share = sum(hits) / len(hits)
    return {"accuracy": share} | ({"exact_match": share} if data.metric == "exact_match" else {})


def _generated_metrics(
    base: Base, data: Targets, tokens: int, most: int, scorers: Mapping[str, AnswerScorer]
) -> dict[str, float]:
    """Means over the rows with a finite score; a metric without any is left out."""
    longest = min(data.max_new_tokens or MAX_NEW_TOKENS, base.context_length - 1)
    count = min(most, len(data.rows))
    rows = [data.rows[index * len(data.rows) // count] for index in range(count)]
    found: dict[str, list[float]] = {name: [] for name in scorers}
    for indices in _chunks([len(prompt_of(row)) + longest for row in rows], tokens):
        part = [rows[index] for index in indices]
        for row, text in zip(part, greedy_answers(base, [prompt_of(row) for row in part], longest), strict=True):
            for name, scorer in scorers.items():
                found[name].append(scorer(row, text))
    finite = {name: [value for value in values if math.isfinite(value)] for name, values in found.items()}
    return {name: sum(values) / len(values) for name, values in finite.items() if values}


def _chunks(lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """Groups rows of similar length, so that attention pads little."""
    chunks: list[list[int]] = [[]]
    filled = 0
    for index in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if chunks[-1] and filled + lengths[index] > tokens:
            chunks.append([])
            filled = 0
        chunks[-1].append(index)
        filled += lengths[index]
    return chunks
