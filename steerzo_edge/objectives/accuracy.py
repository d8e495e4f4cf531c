"""Accuracy as an objective: 1 - the share of rows whose likeliest option is a right one. It has no gradient.

Cost: as the likelihood. The loss changes in jumps of 1 / rows and is flat between them, so several probes of a step
may have the same loss; a batch should hold enough rows that some differ.
"""

from typing import ClassVar, Literal

import torch
from torch import Tensor

from steerzo_edge.data.batches import Batch, TargetBatch
from steerzo_edge.data.tokenization import Targets, Tokenized
from steerzo_edge.errors import ProfileError
from steerzo_edge.model.base import Base, HiddenStates
from steerzo_edge.objectives.likelihood import are_right, option_scores
from steerzo_edge.objectives.objective import Objective, ObjectiveConfig


class AccuracyConfig(ObjectiveConfig):
    """The share of rows whose likeliest option is a right one."""

    kind: Literal["accuracy"] = "accuracy"
    by_score: ClassVar[bool] = True

    def prepare(self, rows: Tokenized, context_length: int) -> Tokenized:
        """Refuses rows without options. See `ObjectiveConfig.prepare`."""
        if isinstance(rows, Targets):
            raise ProfileError("objective.kind is accuracy, but the rows have no options to choose from")
        return rows

    def build(self, rows: Tokenized) -> Objective:
        """See `ObjectiveConfig.build`."""
        return error_rate


def error_rate(base: Base, batch: Batch, copies: int = 1, hidden_states: HiddenStates | None = None) -> Tensor:
    """Computes the share of a batch's rows whose likeliest option is not a right one. See `Objective`.

    Args:
        base: The frozen model; its bank has K versions active.
        batch: Rows with options.
        copies: K.
        hidden_states: As in `losses`.

    Returns:
        (K,) float32 in [0, 1]; nan where a score is not a number.
    """
    assert not isinstance(batch, TargetBatch)
    scores, _ = option_scores(base, batch, copies, hidden_states)  # (K, B, C)
    wrong = 1 - are_right(batch, scores).float().mean(-1)
    return wrong.masked_fill(scores.isnan().flatten(1).any(-1), torch.nan)
