"""The likelihood of the right answers, the default objective: one float32 loss for each of K probes.

    completion       mean cross-entropy of the target tokens, per row, then over the batch
    classification   cross-entropy over the options' length-normalised log-likelihoods, as MeZO's prompts do,
                     - option_mass * log P(any option)
    multiple choice  the same without the second term, over each row's own choices

The second term of a classification does not depend on which option is right; it teaches the model to answer with
one of the options at all. With weight 1 and single-token options, both terms together are the cross-entropy of the
right option over the whole vocabulary. With weight 0 and single-token options the normaliser over the vocabulary
cancels, so only the logits of the options are computed.
"""

from functools import partial
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from steerzo_edge.data.batches import Batch, ChoiceBatch, PhraseBatch, TargetBatch
from steerzo_edge.data.tokenization import Tokenized
from steerzo_edge.model.base import Base, HiddenStates
from steerzo_edge.model.places import picked
from steerzo_edge.objectives.objective import Objective, ObjectiveConfig


class LikelihoodConfig(ObjectiveConfig):
    """The likelihood of the answers."""

    kind: Literal["likelihood"] = "likelihood"
    differentiable: ClassVar[bool] = True
    option_mass: float = Field(
        0.0,
        ge=0,
        le=1,
        description="For labelled rows: weight of -log P(any option), which teaches the model to answer with "
        "an option at all; at 0 only the choice among them is learned.",
    )

    def build(self, rows: Tokenized) -> Objective:
        """See `ObjectiveConfig.build`."""
        return partial(losses, option_mass=self.option_mass)

    @property
    def any_option_weight(self) -> float:
        """Evaluations report the loss that is minimised."""
        return self.option_mass


def losses(
    base: Base,
    batch: Batch,
    copies: int = 1,
    hidden_states: HiddenStates | None = None,
    *,
    option_mass: float = 0.0,
) -> Tensor:
    """Computes the loss of each of K stacked versions, under the bank's active route.

    Args:
        base: The frozen model; its bank has the K versions active.
        batch: One batch, the same for all versions.
        copies: K.
        hidden_states: As in `Objective`.
        option_mass: Weight of -log P(any option), for classification.

    Returns:
        (K,) float32, in nats (per target token, or over the options).
    """
    if isinstance(batch, TargetBatch):
        found = _log_likelihoods(base, batch, copies, hidden_states)  # (K, P)
        return -(found * batch.weights).sum(-1)
    scores, mass = option_scores(base, batch, copies, hidden_states, with_mass=option_mass > 0)
    return option_loss(scores, mass, batch.answers, option_mass)


def option_loss(scores: Tensor, mass: Tensor, right: Tensor, option_mass: float) -> Tensor:
    """Computes the cross-entropy over the options, minus option_mass * log P(any option).

    Args:
        scores: (K, B, C) float32, from `option_scores`.
        mass: (K, B) float32, from `option_scores`.
        right: (B,) int64 index of the right option.
        option_mass: As in `losses`.

    Returns:
        (K,) float32, mean over the examples, in nats.
    """
    chosen = scores.log_softmax(-1).gather(-1, right.expand(len(scores), -1).unsqueeze(-1))  # (K, B, 1)
    return -chosen.squeeze(-1).mean(-1) - option_mass * mass.mean(-1)


def option_scores(
    base: Base,
    batch: ChoiceBatch | PhraseBatch,
    copies: int = 1,
    hidden_states: HiddenStates | None = None,
    *,
    with_mass: bool = False,
) -> tuple[Tensor, Tensor]:
    """Computes how likely each option is, up to a constant per example, and how likely any of them is to follow.

    Args:
        base: The frozen model; its bank has K versions active.
        batch: B rows with options.
        copies: K.
        hidden_states: As in `Objective`.
        with_mass: Whether log P(any option) is wanted.

    Returns:
        Two tensors. (K, B, C) float32: log-likelihood per token of each option, -inf for options that a row does
        not have. (K, B) float32: log P(any option); zeros if it is not wanted, and zeros if each row has choices of
        its own, since those may be long sentences whose probability would outweigh the choice between them.
    """
    examples = len(batch.answers)
    if isinstance(batch, ChoiceBatch):
        last = picked(base.hidden(batch.packed, copies, hidden_states), batch.places).flatten(0, 1)  # (K * B, D)
        scores = base.head.logits(last, batch.options)
        mass = scores.logsumexp(-1) - base.head.normalizers(last) if with_mass else scores.new_zeros(len(last))
        return scores.view(copies, examples, -1), mass.view(copies, examples)
    found = _log_likelihoods(base, batch, copies, hidden_states)  # (K, P)
    # Matrix products, because index_add_ on CUDA sums in a different order every time.
    scores = (found @ batch.shares).view(copies, examples, -1)
    if batch.absent is not None:
        scores = scores + batch.absent
    if not (with_mass and batch.shared):
        return scores, scores.new_zeros(copies, examples)
    whole = (found @ (batch.shares > 0).float()).view(copies, examples, -1)
    # An option that is the beginning of another one is counted twice; without the bound, training would raise the
    # sum above probability 1.
    return scores, torch.logsumexp(whole, -1).clamp(max=0)


def are_right(batch: ChoiceBatch | PhraseBatch, scores: Tensor) -> Tensor:
    """Says for each example whether its likeliest option is a right one.

    Args:
        batch: B examples.
        scores: (K, B, C) float32, from `option_scores`.

    Returns:
        (K, B) bool.
    """
    chosen = scores.argmax(-1)  # (K, B)
    if isinstance(batch, ChoiceBatch):
        return chosen == batch.answers
    return batch.right.expand(len(scores), -1, -1).gather(-1, chosen.unsqueeze(-1)).squeeze(-1)


def _log_likelihoods(
    base: Base, batch: TargetBatch | PhraseBatch, copies: int, hidden_states: HiddenStates | None
) -> Tensor:
    places = picked(base.hidden(batch.packed, copies, hidden_states), batch.places)  # (K, P, D)
    return base.head.log_likelihoods(places.flatten(0, 1), batch.targets.repeat(copies)).view(copies, -1)
