"""Objectives without a gradient: what counts is how things came out.

    accuracy            1 - share of rows whose likeliest option is a right one; costs what the likelihood costs
    generated answers   1 - mean of what a judge gives the answers; a forward for each token of the longest answer

They are steps, flat between: many probes may tie, and a batch should hold enough rows that some do not.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from steerzo_edge.data.batches import Batch, TargetBatch
from steerzo_edge.data.tokenization import Targets
from steerzo_edge.model.base import Base, HiddenStates
from steerzo_edge.objectives.generated import answers, prompt_of
from steerzo_edge.objectives.likelihood import are_right, option_scores
from steerzo_edge.objectives.scorers import AnswerScorer


def error_rate(base: Base, batch: Batch, copies: int = 1, entering: HiddenStates | None = None) -> Tensor:
    """Share of a batch's rows whose likeliest option is not a right one. See `Objective`.

    Args:
        base: Whose bank has K versions active.
        batch: Rows with options.
        copies: K.
        entering: As in `losses`.

    Returns:
        (K,) float32 in [0, 1]; nan where a score is not a number.
    """
    assert not isinstance(batch, TargetBatch)
    scores, _ = option_scores(base, batch, copies, entering)  # (K, B, C)
    wrong = 1 - are_right(batch, scores).float().mean(-1)
    return wrong.masked_fill(scores.isnan().flatten(1).any(-1), torch.nan)


@dataclass(frozen=True, slots=True)
class GeneratedAnswerLoss:
    """1 - mean of what a judge gives the answers to a batch's prompts. See `Objective`.

    Args:
        data: The rows that batches are made of.
        judge: In [0, 1], or nan: then the whole candidate counts as not a number.
        max_new_tokens: Longest answer.
    """

    data: Targets
    judge: AnswerScorer
    max_new_tokens: int

    def __call__(self, base: Base, batch: Batch, copies: int = 1, entering: HiddenStates | None = None) -> Tensor:
        """(K,) float32 in [0, 1]. K groups of rows, version k on group k; the frozen prefix is of no use here."""
        rows = [self.data.rows[index] for index in batch.indices]
        given = answers(base, [prompt_of(row) for row in rows] * copies, self.max_new_tokens)
        size = len(rows)
        scores = []
        for k in range(copies):
            pairs = zip(rows, given[k * size : (k + 1) * size], strict=True)
            scores.append(sum(self.judge(row, answer) for row, answer in pairs) / size)
        return 1 - torch.tensor(scores, dtype=torch.float32, device=base.device)
