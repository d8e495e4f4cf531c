"""Rows of different lengths as one run of tokens: no padding goes through the model's products.

    rows        [p p p]   [q q]   [r r r r]
    packed      p p p q q r r r r               positions 0 1 2 0 1 0 1 2 3

Attention alone needs to know where rows begin; there they are laid out side by side for a moment (`gather`) and
put back (`scatter`). A row may fork: a prompt shared by several continuations, each seeing the prompt and itself.

    forked      p p p a a b                     positions 0 1 2 3 4 3
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Tokens = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Fork:
    """A row: a stem, and continuations that share it (none, for a plain row)."""

    stem: Tokens
    branches: tuple[Tokens, ...] = ()

    @property
    def tokens(self) -> Tokens:
        """Stem and branches, one behind the other."""
        return self.stem + tuple(token for branch in self.branches for token in branch)


@dataclass(frozen=True, slots=True)
class Packed:
    """N packed rows of S tokens in all; T is the longest.

    Args:
        rows: As packed.
        input_ids: (1, S) int64.
        positions: (1, S) int64, from 0 in each row; a branch goes on where its stem ends.
        gather: (N * T,) index into S of each place of the padded layout; padding repeats the row's first token.
        scatter: (S,) index into N * T of each token.
        width: T.
        mask: (N, 1, T, T) bool, True where a token may look; None if every row is plain (causal).
    """

    rows: tuple[Fork, ...]
    input_ids: Tensor
    positions: Tensor
    gather: Tensor
    scatter: Tensor
    width: int
    mask: Tensor | None

    @property
    def is_even(self) -> bool:
        """Whether all rows have the same length, so that packed and padded layouts are one."""
        return len(self.gather) == self.input_ids.shape[1]


def pack(rows: Sequence[Fork], device: torch.device | str = "cpu") -> Packed:
    """Packs rows, at least one, none empty.

    Args:
        rows: In the order they are to stand.
        device: Where the tensors go.
    """
    tokens = [row.tokens for row in rows]
    width = max(map(len, tokens))
    gather: list[int] = []
    scatter: list[int] = []
    start = 0
    for index, row in enumerate(tokens):
        length = len(row)
        gather += [*range(start, start + length), *[start] * (width - length)]
        scatter += range(index * width, index * width + length)
        start += length
    forked = any(row.branches for row in rows)
    return Packed(
        rows=tuple(rows),
        input_ids=torch.tensor([[token for row in tokens for token in row]], device=device),
        positions=torch.tensor([[place for row in rows for place in _positions(row)]], device=device),
        gather=torch.tensor(gather, device=device),
        scatter=torch.tensor(scatter, device=device),
        width=width,
        mask=torch.stack([_visible(row, width) for row in rows]).unsqueeze(1).to(device) if forked else None,
    )


def starts(rows: Sequence[Fork]) -> list[int]:
    """Where each row begins in the packed run."""
    found, start = [], 0
    for row in rows:
        found.append(start)
        start += len(row.tokens)
    return found


def _positions(row: Fork) -> list[int]:
    stem = len(row.stem)
    return [*range(stem), *(stem + place for branch in row.branches for place in range(len(branch)))]


def _visible(row: Fork, width: int) -> Tensor:
    """(T, T) bool: earlier tokens of the stem and of the own branch; padding sees the first token."""
    owner = [0] * len(row.stem) + [index for index, b in enumerate(row.branches, 1) for _ in b]
    owners = torch.tensor(owner + [0] * (width - len(owner)))
    seen = (owners.unsqueeze(0) == 0) | (owners.unsqueeze(0) == owners.unsqueeze(1))
    return seen & torch.ones(width, width, dtype=torch.bool).tril()
