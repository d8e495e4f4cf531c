"""Bits per byte: what a model needs to tell a text, over the text's UTF-8 bytes, whatever its tokens are.

    window 1   [begin a b c d e f g]            scores a..g
    window 2           [d e f g h i j k]        scores h..k, with half a window before them
    window 3                   [h i j k l m ..

Every token is scored once; but for the first window it sees at least half a window of what came before. A model's
begin token (or else its end token) stands before each text and is not scored. Logits are float32.

What it does not know: a tokenizer that cannot write some characters (unknown tokens) is charged too little for
them; `Score.exact` says how many texts come back whole from their tokens.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from steerzo_edge.errors import InputError


@dataclass(frozen=True, slots=True)
class Score:
    """What some texts cost.

    Args:
        nats: Negative log-likelihood of all their tokens.
        bytes: Of their UTF-8.
        tokens: That were scored.
        documents: How many texts.
        exact: How many of them come back from their tokens, up to blanks at the ends.
    """

    nats: float = 0.0
    bytes: int = 0
    tokens: int = 0
    documents: int = 0
    exact: int = 0

    def __add__(self, other: "Score") -> "Score":
        return Score(
            self.nats + other.nats,
            self.bytes + other.bytes,
            self.tokens + other.tokens,
            self.documents + other.documents,
            self.exact + other.exact,
        )

    @property
    def bits_per_byte(self) -> float:
        """Bits a byte; 8 is what bytes cost without a model."""
        return self.nats / math.log(2) / self.bytes


def score(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Iterable[str],
    *,
    context: int,
    batch: int = 16,
) -> Score:
    """Scores texts, each by itself.

    Args:
        model: On its device; its own forward is used.
        tokenizer: The model's.
        texts: None of them empty.
        context: Tokens of a window; at most what the model takes.
        batch: Windows in one forward.

    Raises:
        InputError: If the tokenizer has neither a begin nor an end token.
    """
    begin = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    if begin is None:
        raise InputError("this tokenizer has neither a begin nor an end token, so a text has no first prediction")
    total = Score()
    waiting: list[tuple[list[int], int]] = []
    for text in texts:
        ids = tokenizer.encode(text, add_special_tokens=False)
        exact = tokenizer.decode(ids, clean_up_tokenization_spaces=False).strip() == text.strip()
        total += Score(0.0, len(text.encode()), len(ids), 1, int(exact))
        waiting += windows([begin, *ids], context)
        while len(waiting) >= batch:
            total += Score(_nats(model, waiting[:batch]))
            del waiting[:batch]
    return total + Score(_nats(model, waiting)) if waiting else total


def windows(ids: list[int], context: int) -> list[tuple[list[int], int]]:
    """A text's windows, and how many of each one's last tokens are scored.

    Args:
        ids: The begin token and the text's tokens.
        context: Tokens of a window, at least 2.

    Returns:
        Windows of at most `context` tokens; the scored tokens of all together are `ids[1:]`, each once.
    """
    found = [(ids[:context], min(context, len(ids)) - 1)]
    done = context
    while done < len(ids):
        end = min(done + max(1, context // 2), len(ids))
        found.append((ids[max(0, end - context) : end], end - done))
        done = end
    return found


@torch.inference_mode()
def _nats(model: PreTrainedModel, some: list[tuple[list[int], int]]) -> float:
    width = max(len(ids) for ids, _ in some)
    # Filled up on the right: no token looks at what comes after it.
    rows = torch.tensor([ids + [ids[-1]] * (width - len(ids)) for ids, _ in some], device=model.device)  # (B, T)
    logits = model(input_ids=rows, use_cache=False).logits[:, :-1].float()  # (B, T-1, V)
    losses = functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten(), reduction="none")
    return float((losses.view(len(some), -1) * _scored(some, width).to(losses)).sum(dtype=torch.float64))


def _scored(some: list[tuple[list[int], int]], width: int) -> Tensor:
    mask = torch.zeros(len(some), width - 1)
    for row, (ids, last) in zip(mask, some, strict=True):
        row[len(ids) - 1 - last : len(ids) - 1] = 1
    return mask
