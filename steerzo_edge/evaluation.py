"""How good an adapter is on rows that were not trained on."""

from dataclasses import dataclass

import torch

from steerzo_edge.data.batches import TargetBatch, collate, forks
from steerzo_edge.data.tokenization import Target, Tokenized
from steerzo_edge.model.bank import Patches, uniform
from steerzo_edge.model.base import Base
from steerzo_edge.model.prefix import PrefixStore
from steerzo_edge.objectives import are_right, losses, option_loss, option_scores

TOKENS = 4096


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The result on a set of rows.

    Args:
        loss: Mean over rows, in nats (per target token, or over the options).
        accuracy: Share of rows whose right option scored highest; None without options.
        examples: Number of rows.
    """

    loss: float
    accuracy: float | None
    examples: int


def evaluate(
    base: Base,
    data: Tokenized,
    adapter: Patches | None = None,
    *,
    prefix: PrefixStore | None = None,
    tokens: int = TOKENS,
    option_mass: float = 0.0,
) -> Evaluation:
    """Mean loss, and accuracy where there are options.

    Args:
        base: The frozen model.
        data: Rows to evaluate.
        adapter: Patches of one version; None is the bare base.
        prefix: What enters the adapter's lowest layer, if that is above the first.
        tokens: Most tokens in one forward.
        option_mass: As in `losses`.
    """
    loss, right = 0.0, 0
    with torch.inference_mode(), base.bank.route(uniform(adapter)):
        for indices in _chunks(data, tokens):
            batch = collate(data, indices, base.device)
            entering = None if prefix is None else prefix.of(batch.packed)
            if isinstance(batch, TargetBatch):
                loss += float(losses(base, batch, 1, entering)) * len(indices)
                continue
            scores, mass = option_scores(base, batch, 1, entering, with_mass=option_mass > 0)  # (1, B, C), (1, B)
            loss += float(option_loss(scores, mass, batch.answers, option_mass)) * len(indices)
            right += int(are_right(batch, scores).sum())
    count = len(data.rows)
    accuracy = None if isinstance(data.rows[0], Target) else right / count
    return Evaluation(loss / count, accuracy, count)


def _chunks(data: Tokenized, tokens: int) -> list[list[int]]:
    """Rows of like length together, so that attention pads little."""
    lengths = [len(row.tokens) for row in forks(data)]
    chunks: list[list[int]] = [[]]
    filled = 0
    for index in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if chunks[-1] and filled + lengths[index] > tokens:
            chunks.append([])
            filled = 0
        chunks[-1].append(index)
        filled += lengths[index]
    return chunks
