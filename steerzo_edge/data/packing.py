"""Packs rows of different lengths into one run of tokens, so that the linear layers compute no padding.

    rows        [p p p]   [q q]   [r r r r]
    packed      p p p q q r r r r               positions 0 1 2 0 1 0 1 2 3

Only attention needs to know where rows begin. There, rows of similar length are gathered into a padded rectangle
(`Group`), and the result is scattered back. A row may fork into branches: several continuations share a prompt, and
each of them sees the prompt and itself.

    forked      p p p a a b                     positions 0 1 2 3 4 3
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from steerzo_edge.data.tokens import Tokens

# The cost of one more group, in query-key pairs; on two cores, any value from 4,000 to 16,000 is equally fast.
GROUP_COST = 6000


@dataclass(frozen=True, slots=True)
class Fork:
    """A row: a stem, and the branches that continue it (none, for a row that does not fork)."""

    stem: Tokens
    branches: tuple[Tokens, ...] = ()

    @property
    def tokens(self) -> Tokens:
        """The stem, followed by all branches."""
        return self.stem + tuple(token for branch in self.branches for token in branch)


@dataclass(frozen=True, slots=True)
class Group:
    """Consecutive rows of similar length, as attention computes them: n rows of W places.

    Args:
        gather: (n, W) index into S of each place; padding repeats the row's first token.
        scatter: (tokens of these rows,) index into n * W of each token, in packed order.
        mask: (n, 1, W, W) bool, True where a place may attend; None if no row forks (causal attention).
    """

    gather: Tensor
    scatter: Tensor
    mask: Tensor | None

    def by_head(self, heads: int) -> tuple[Tensor, Tensor]:
        """Both indices for tokens that are H consecutive vectors each: (n * H * W,) into S * H, and back."""
        width = self.gather.shape[1]
        head = torch.arange(heads, device=self.gather.device)
        there = self.gather.unsqueeze(1) * heads + head.unsqueeze(1)  # (n, H, W)
        row, place = self.scatter // width, self.scatter % width
        back = (row.unsqueeze(1) * heads + head) * width + place.unsqueeze(1)  # (tokens, H)
        return there.flatten(), back.flatten()


@dataclass(frozen=True, slots=True)
class Packed:
    """N packed rows of S tokens in all.

    Args:
        rows: As packed, at the beginning of S.
        input_ids: (1, S) int64.
        positions: (1, S) int64, from 0 in each row; a branch continues the positions of its stem.
        groups: The rows, cut into groups for attention.
    """

    rows: tuple[Fork, ...]
    input_ids: Tensor
    positions: Tensor
    groups: tuple[Group, ...]

    @property
    def tokens(self) -> int:
        """Number of tokens of all rows."""
        return sum(len(row.tokens) for row in self.rows)


def pack(rows: Sequence[Fork], device: torch.device | str = "cpu") -> Packed:
    """Packs rows: at least one, none empty.

    Args:
        rows: In this order; rows of similar length next to each other save work.
        device: Of the tensors. On CUDA all rows are one group: a kernel launch costs more than padding does.
    """
    tokens = [row.tokens for row in rows]
    begins = starts(rows)
    bounds = [(0, len(rows))] if torch.device(device).type == "cuda" else _alike([len(row) for row in tokens])
    return Packed(
        rows=tuple(rows),
        input_ids=torch.tensor([[token for row in tokens for token in row]], device=device),
        positions=torch.tensor([[place for row in rows for place in _positions(row)]], device=device),
        groups=tuple(_group(rows[low:high], begins[low], device) for low, high in bounds),
    )


def _alike(lengths: Sequence[int]) -> list[tuple[int, int]]:
    """Bounds of groups; a new one begins where padding would waste more than one more group costs."""
    bounds = []
    low, width, used = 0, 0, 0
    for index, length in enumerate(lengths):
        wider = max(width, length)
        if index > low and (index + 1 - low) * wider**2 - used - length**2 > GROUP_COST:
            bounds.append((low, index))
            low, wider, used = index, length, 0
        width, used = wider, used + length**2
    return [*bounds, (low, len(lengths))]


def _group(rows: Sequence[Fork], start: int, device: torch.device | str) -> Group:
    lengths = [len(row.tokens) for row in rows]
    width = max(lengths)
    gather: list[list[int]] = []
    scatter: list[int] = []
    for index, length in enumerate(lengths):
        gather.append([*range(start, start + length), *[start] * (width - length)])
        scatter += range(index * width, index * width + length)
        start += length
    forked = any(row.branches for row in rows)
    return Group(
        torch.tensor(gather, device=device),
        torch.tensor(scatter, device=device),
        torch.stack([_visible(row, width) for row in rows]).unsqueeze(1).to(device) if forked else None,
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
    """(W, W) bool: a token sees the earlier tokens of the stem and of its own branch; padding sees the stem."""
    owner = [0] * len(row.stem) + [index for index, b in enumerate(row.branches, 1) for _ in b]
    owners = torch.tensor(owner + [0] * (width - len(owner)))
    seen = (owners.unsqueeze(0) == 0) | (owners.unsqueeze(0) == owners.unsqueeze(1))
    return seen & torch.ones(width, width, dtype=torch.bool).tril()
