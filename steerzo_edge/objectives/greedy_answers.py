"""Greedy answers to many prompts at once, left-padded, by the `generate` of `transformers`.

Rows go through the bank's active route as in every other forward, so K stacked versions of an adapter answer K
groups of rows of equal size. An answer ends at an end token, at the end of a line, or at a maximal length.

Cost: one forward for all prompts, then one for each token of the longest answer.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import StoppingCriteria, StoppingCriteriaList

from steerzo_edge.data.tokenization import Target
from steerzo_edge.data.tokens import Tokens
from steerzo_edge.model.base import Base

# Longest answer where neither the rows nor the profile set one.
MAX_NEW_TOKENS = 32


def greedy_answers(base: Base, prompts: Sequence[Tokens], max_new_tokens: int) -> list[str]:
    """Generates what follows each prompt, under the bank's active route.

    Args:
        base: The frozen model.
        prompts: At least one, none empty; a prompt that leaves no room for the answer is cut on the left.
        max_new_tokens: Most tokens of an answer, at least 1 and less than the context length.

    Returns:
        One line of text for each prompt, without whitespace around it.
    """
    room = base.context_length - max_new_tokens
    kept = [prompt[-room:] for prompt in prompts]
    width = max(map(len, kept))
    pad = base.tokenizer.pad_token_id
    ids = torch.tensor([[pad] * (width - len(prompt)) + list(prompt) for prompt in kept], device=base.device)
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in kept], device=base.device)
    # The same matrix product as in training; the faster one of generation is for a single row.
    base.bank.is_batch_pass = True
    try:
        found = base.model.generate(
            ids,
            attention_mask=mask,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            stopping_criteria=StoppingCriteriaList([_LineEnds(base)]),
            pad_token_id=pad,
        )
    finally:
        base.bank.is_batch_pass = False
    return [_text(base, row) for row in found[:, width:].tolist()]


def prompt_of(row: Target) -> Tokens:
    """The tokens before the first target token."""
    return row.tokens[: row.counted.index(True)]


class _LineEnds(StoppingCriteria):  # type: ignore[misc]
    """Stops a row whose last token contains a line break."""

    def __init__(self, base: Base) -> None:
        self._tokenizer = base.tokenizer

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        """Says for each row whether it is done; `generate` calls it after each token."""
        pieces = self._tokenizer.batch_decode(input_ids[:, -1:])
        return torch.tensor(["\n" in piece for piece in pieces], device=input_ids.device)


def _text(base: Base, tokens: Sequence[int]) -> str:
    ends = base.end_tokens
    end = next((place for place, token in enumerate(tokens) if token in ends), len(tokens))
    text = str(base.tokenizer.decode(tokens[:end], skip_special_tokens=True))
    return text.partition("\n")[0].strip()
