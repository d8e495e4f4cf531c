"""What is minimised: a batch to one float32 loss for each of K probes.

    completion       mean cross-entropy of the target tokens, per row, then over the batch
    classification   cross-entropy over the options' length-normalised log-likelihoods, as MeZO's prompts do

Where all options are single tokens the vocabulary's normaliser cancels: one row of option logits an example
is all that is computed.
"""

from torch import Tensor

from steerzo_edge.data.batches import Batch, ChoiceBatch, PhraseBatch, TargetBatch
from steerzo_edge.model.base import Base, Entering


def losses(base: Base, batch: Batch, copies: int = 1, entering: Entering | None = None) -> Tensor:
    """The loss of each of K stacked versions, under the bank's active route.

    Args:
        base: Whose bank has the K versions active.
        batch: One batch, the same for all versions.
        copies: K.
        entering: Hidden states that enter a layer not above the route's fan, if they are at hand.

    Returns:
        (K,) float32, in nats (per target token, or over the options).
    """
    if isinstance(batch, TargetBatch):
        found = _log_likelihoods(base, batch, copies, entering)  # (K, P)
        return -(found * batch.weights).sum(-1)
    return option_loss(option_scores(base, batch, copies, entering), batch.answers)


def option_loss(scores: Tensor, answers: Tensor) -> Tensor:
    """Cross-entropy over the options.

    Args:
        scores: (K, B, C) float32.
        answers: (B,) int64 index of the right option.

    Returns:
        (K,) float32, mean over the examples, in nats.
    """
    chosen = scores.log_softmax(-1).gather(-1, answers.expand(len(scores), -1).unsqueeze(-1))  # (K, B, 1)
    return -chosen.squeeze(-1).mean(-1)


def option_scores(
    base: Base, batch: ChoiceBatch | PhraseBatch, copies: int = 1, entering: Entering | None = None
) -> Tensor:
    """How likely each option is, up to a constant per example.

    Returns:
        (K, B, C) float32: log-likelihood per token of each option.
    """
    examples = len(batch.answers)
    if isinstance(batch, ChoiceBatch):
        last = base.hidden(batch.packed, copies, entering)[:, batch.places]  # (K, B, D)
        return base.head.logits(last.flatten(0, 1), batch.options).view(copies, examples, -1)
    found = _log_likelihoods(base, batch, copies, entering)  # (K, P)
    # A product instead of index_add_, whose sums on CUDA come out in a different order every time.
    return (found @ batch.shares).view(copies, examples, -1)


def _log_likelihoods(
    base: Base, batch: TargetBatch | PhraseBatch, copies: int, entering: Entering | None
) -> Tensor:
    places = base.hidden(batch.packed, copies, entering)[:, batch.places]  # (K, P, D)
    return base.head.log_likelihoods(places.flatten(0, 1), batch.targets.repeat(copies)).view(copies, -1)
