"""How good an adapter is on rows that were not trained on."""

from dataclasses import dataclass

import torch

from steerzo_edge.data.batches import TargetBatch, collate
from steerzo_edge.data.tokenization import Target, Tokenized
from steerzo_edge.model.bank import Patches, uniform
from steerzo_edge.model.base import Base
from steerzo_edge.objectives import losses, option_loss, option_scores

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


def evaluate(base: Base, data: Tokenized, adapter: Patches | None = None, *, tokens: int = TOKENS) -> Evaluation:
    """Mean loss, and accuracy where there are options.

    Args:
        base: The frozen model.
        data: Rows to evaluate.
        adapter: Patches of one version; None is the bare base.
        tokens: Most padded tokens in one forward.
    """
    loss, right = 0.0, 0
    with torch.inference_mode(), base.bank.route(uniform(adapter)):
        for indices in _chunks(data, tokens):
            batch = collate(data, indices, base.tokenizer.pad_token_id, base.device)
            if isinstance(batch, TargetBatch):
                loss += float(losses(base, batch)) * len(indices)
                continue
            scores = option_scores(base, batch)  # (1, B, C)
            loss += float(option_loss(scores, batch.answers)) * len(indices)
            right += int((scores[0].argmax(-1) == batch.answers).sum())
    count = len(data.rows)
    accuracy = None if isinstance(data.rows[0], Target) else right / count
    return Evaluation(loss / count, accuracy, count)


def _chunks(data: Tokenized, tokens: int) -> list[list[int]]:
    """Rows of like length together, so that little is padded."""
    lengths = [len(row.tokens) if isinstance(row, Target) else len(row.prompt) for row in data.rows]
    widest = 1 if isinstance(data.rows[0], Target) else max(1, len(getattr(data, "options", ())))
    chunks: list[list[int]] = [[]]
    for index in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if chunks[-1] and (len(chunks[-1]) + 1) * lengths[index] * widest > tokens:
            chunks.append([])
        chunks[-1].append(index)
    return chunks
