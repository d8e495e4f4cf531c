"""How good an adapter is on rows that were not trained on."""

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
from steerzo_edge.objectives.generated import MAX_NEW_TOKENS, answers, prompt_of
from steerzo_edge.objectives.likelihood import losses, option_loss, option_scores
from steerzo_edge.objectives.metrics import accuracy, balanced_accuracy, binary_f1
from steerzo_edge.objectives.scorers import SCORERS, AnswerScorer

TOKENS = 4096


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The result on a set of rows.

    Args:
        loss: Mean over rows, in nats (per target token, or over the options).
        accuracy: Share of rows whose likeliest option is a right one; None without options.
        examples: Number of rows.
        metrics: Every metric that was taken, by name, in [0, 1].
        score: The one among them that the rows are judged by first; None where the loss alone counts.
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
    judges: Mapping[str, AnswerScorer] = SCORERS,
) -> Evaluation:
    """Mean loss, and the metrics that fit the rows.

    Args:
        base: The frozen model.
        data: Rows to evaluate.
        adapter: Patches of one version; None is the bare base.
        prefix: What enters the adapter's lowest layer, if that is above the first.
        tokens: Most tokens in one forward.
        option_mass: As in `losses`.
        generate: Most rows that are answered in full, evenly spread, where rows are judged by generated text.
        judges: What such answers are given, by the metric's name.
    """
    loss = 0.0
    chosen = [0] * len(data.rows)
    with torch.inference_mode(), base.bank.route(uniform(adapter)):
        for indices in _chunks([len(row.tokens) for row in forks(data)], tokens):
            batch = collate(data, indices, base.device)
            entering = None if prefix is None else prefix.of(batch.packed)
            if isinstance(batch, TargetBatch):
                loss += float(losses(base, batch, 1, entering)) * len(indices)
                continue
            scores, mass = option_scores(base, batch, 1, entering, with_mass=option_mass > 0)  # (1, B, C), (1, B)
            loss += float(option_loss(scores, mass, batch.answers, option_mass)) * len(indices)
            for index, choice in zip(batch.indices, scores[0].argmax(-1).tolist(), strict=True):
                chosen[index] = choice
        if not isinstance(data, Targets):
            metrics = _of_options(data, chosen)
        elif data.metric is not None and generate > 0:
            metrics = _of_answers(base, data, tokens, generate, judges)
        else:
            metrics = {}
    score = None if data.metric is None else metrics.get(data.metric)
    return Evaluation(loss / len(data.rows), metrics.get("accuracy"), len(data.rows), metrics, score)


def _of_options(data: Tokenized, chosen: Sequence[int]) -> dict[str, float]:
    if isinstance(data, Choices):
        right = [row.answer for row in data.rows]
        found = {"accuracy": accuracy(right, chosen), "balanced_accuracy": balanced_accuracy(right, chosen)}
        return found | ({"f1": binary_f1(right, chosen)} if data.metric == "f1" else {})
    assert not isinstance(data, Targets)
    hits = [choice in row.answers for row, choice in zip(data.rows, chosen, strict=True)]
    share = sum(hits) / len(hits)
    return {"accuracy": share} | ({"exact_match": share} if data.metric == "exact_match" else {})


def _of_answers(
    base: Base, data: Targets, tokens: int, most: int, judges: Mapping[str, AnswerScorer]
) -> dict[str, float]:
    """Means over the rows that could be judged; without any, the metric is left out."""
    longest = min(data.max_new_tokens or MAX_NEW_TOKENS, base.context_length - 1)
    count = min(most, len(data.rows))
    rows = [data.rows[index * len(data.rows) // count] for index in range(count)]
    found: dict[str, list[float]] = {name: [] for name in judges}
    for indices in _chunks([len(prompt_of(row)) + longest for row in rows], tokens):
        part = [rows[index] for index in indices]
        for row, answer in zip(part, answers(base, [prompt_of(row) for row in part], longest), strict=True):
            for name, judge in judges.items():
                found[name].append(judge(row, answer))
    finite = {name: [value for value in values if math.isfinite(value)] for name, values in found.items()}
    return {name: sum(values) / len(values) for name, values in finite.items() if values}


def _chunks(lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """Rows of like length together, so that attention pads little."""
    chunks: list[list[int]] = [[]]
    filled = 0
    for index in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if chunks[-1] and filled + lengths[index] > tokens:
            chunks.append([])
            filled = 0
        chunks[-1].append(index)
        filled += lengths[index]
    return chunks
