"""Log-probabilities of tokens in the model's own distribution, before temperature, top_k and top_p."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Likely:
    """A token and its log-probability.

    Args:
        token: Its id.
        logprob: Its log-probability, in nats.
    """

    token: int
    logprob: float


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token of an answer, and the likeliest tokens at its place.

    Args:
        chosen: The token.
        likeliest: As many as were requested, the likeliest first.
        offset: Where its text begins in the answer, in characters.
    """

    chosen: Likely
    likeliest: tuple[Likely, ...]
    offset: int = 0


def logprobs_of(
    scores: Tensor, tokens: Sequence[int], requested: Sequence[int | None]
) -> list[TokenLogprob | None]:
    """Computes log-probabilities of the chosen tokens, for the rows that requested them.

    Args:
        scores: (n, V) logits.
        tokens: The chosen token of each row.
        requested: For each row how many of the likeliest tokens to list; None skips the row.
    """
    found: list[TokenLogprob | None] = [None] * len(tokens)
    rows = [row for row, count in enumerate(requested) if count is not None]
    if not rows:
        return found
    logprobs = scores[rows].float().log_softmax(-1)
    own = torch.tensor([[tokens[row]] for row in rows], device=scores.device)
    most = min(max(count for count in requested if count is not None), scores.shape[1])
    top = logprobs.topk(most, -1)
    values, ids = top.values.tolist(), top.indices.tolist()
    for place, (row, (logprob,)) in enumerate(zip(rows, logprobs.gather(1, own).tolist(), strict=True)):
        likeliest = tuple(map(Likely, ids[place], values[place]))[: requested[row]]
        found[row] = TokenLogprob(Likely(tokens[row], logprob), likeliest)
    return found
