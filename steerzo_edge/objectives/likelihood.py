"""What is minimised: a batch to one float32 loss for each of K probes.

    completion       mean cross-entropy of the target tokens, per row, then over the batch
    classification   cross-entropy over the options' length-normalised log-likelihoods, as MeZO's prompts do,
                     - option_mass * log P(any option)
    multiple choice  the same without the second term, over each row's own choices

The second term of a classification says nothing about which option is right; it teaches the model to answer with
one of them at all. At weight 1 and single-token options both together are the answer's cross-entropy over the whole
vocabulary. At weight 0 and single-token options the vocabulary's normaliser cancels: one row of option logits an
example is all that is computed.
"""

from typing import Protocol

import torch
from torch import Tensor

from steerzo_edge.data.batches import Batch, ChoiceBatch, PhraseBatch, TargetBatch
from steerzo_edge.model.base import Base, HiddenStates


class Objective(Protocol):
    """What a run minimises."""

    def __call__(self, base: Base, batch: Batch, copies: int, entering: HiddenStates | None, /) -> Tensor:
        """The loss of each of K stacked versions, under the bank's active route; (K,) float32."""
        ...


def losses(
    base: Base, batch: Batch, copies: int = 1, entering: HiddenStates | None = None, *, option_mass: float = 0.0
) -> Tensor:
    """The loss of each of K stacked versions, under the bank's active route.

    Args:
        base: Whose bank has the K versions active.
        batch: One batch, the same for all versions.
        copies: K.
        entering: Hidden states that enter a layer not above the route's branch layer, if they are at hand.
        option_mass: Weight of the options' common log-probability, for classification.

    Returns:
        (K,) float32, in nats (per target token, or over the options).
    """
    if isinstance(batch, TargetBatch):
        found = _log_likelihoods(base, batch, copies, entering)  # (K, P)
        return -(found * batch.weights).sum(-1)
    scores, mass = option_scores(base, batch, copies, entering, with_mass=option_mass > 0)
    return option_loss(scores, mass, batch.answers, option_mass)


def option_loss(scores: Tensor, mass: Tensor, answers: Tensor, option_mass: float) -> Tensor:
    """Cross-entropy over the options, less the weighted log-probability of any of them.

    Args:
        scores: (K, B, C) float32, and
        mass: (K, B) float32, from `option_scores`.
        answers: (B,) int64 index of the right option.
        option_mass: As in `losses`.

    Returns:
        (K,) float32, mean over the examples, in nats.
    """
    chosen = scores.log_softmax(-1).gather(-1, answers.expand(len(scores), -1).unsqueeze(-1))  # (K, B, 1)
    return -chosen.squeeze(-1).mean(-1) - option_mass * mass.mean(-1)


def option_scores(
    base: Base,
    batch: ChoiceBatch | PhraseBatch,
    copies: int = 1,
    entering: HiddenStates | None = None,
    *,
    with_mass: bool = False,
) -> tuple[Tensor, Tensor]:
    """How likely each option is, up to a constant per example; and how likely it is that any of them follows.

    Returns:
        (K, B, C) float32: log-likelihood per token of each option, -inf for those a row lacks; (K, B) float32:
        log P(any option), or zeros if it is not asked for or rows have choices of their own: those may be long
        sentences, whose probability would drown the choice between them.
    """
    examples = len(batch.answers)
    if isinstance(batch, ChoiceBatch):
        last = base.hidden(batch.packed, copies, entering)[:, batch.places].flatten(0, 1)  # (K * B, D)
        scores = base.head.logits(last, batch.options)
        mass = scores.logsumexp(-1) - base.head.normalizers(last) if with_mass else scores.new_zeros(len(last))
        return scores.view(copies, examples, -1), mass.view(copies, examples)
    found = _log_likelihoods(base, batch, copies, entering)  # (K, P)
    # Products instead of index_add_, whose sums on CUDA come out in a different order every time.
    scores = (found @ batch.shares).view(copies, examples, -1)
    if batch.absent is not None:
        scores = scores + batch.absent
    if not (with_mass and batch.shared):
        return scores, scores.new_zeros(copies, examples)
    whole = (found @ (batch.shares > 0).float()).view(copies, examples, -1)
    # An option that begins another one is counted twice; a probability above 1 would be sought after.
    return scores, torch.logsumexp(whole, -1).clamp(max=0)


def are_right(batch: ChoiceBatch | PhraseBatch, scores: Tensor) -> Tensor:
    """Whether each example's likeliest option is a right one.

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
    base: Base, batch: TargetBatch | PhraseBatch, copies: int, entering: HiddenStates | None
) -> Tensor:
    places = base.hidden(batch.packed, copies, entering)[:, batch.places]  # (K, P, D)
    return base.head.log_likelihoods(places.flatten(0, 1), batch.targets.repeat(copies)).view(copies, -1)
