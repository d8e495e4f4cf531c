"""Rows of the mix: row n is a pure function of the seed and n, so a run goes on anywhere.

The next row is cut from the source that is furthest behind its share. Inside a source documents follow each other
in an order of their own for each pass, without gaps, and rows are cut from that; a pass's last tokens, fewer than
a row, are left out.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from steerzo_edge.errors import InputError
from steerzo_edge.seeds import derive_seed
from tools.pretrain_base.tokens import Corpus


class Rows:
    """Rows of tokens in the proportions of a mix.

    Args:
        corpora: Their tokens.
        shares: Of the rows, by name; they sum to 1.
        length: Tokens of a row, the one that is only predicted included.
        seed: Of the order.

    Raises:
        InputError: If a corpus has fewer tokens than a row.
    """

    def __init__(self, corpora: Sequence[Corpus], shares: dict[str, float], length: int, seed: int) -> None:
        self._sources = [_Passes(corpus, length, seed) for corpus in corpora]
        self._shares = [shares[corpus.name] for corpus in corpora]
        self._taken = [0] * len(corpora)

    @property
    def taken(self) -> list[int]:
        """Rows taken of each corpus so far; with the seed, the whole state."""
        return list(self._taken)

    def go_to(self, taken: Sequence[int]) -> None:
        """Sets the position."""
        self._taken = list(taken)

    def next(self, count: int) -> Tensor:
        """The next rows.

        Args:
            count: How many.

        Returns:
            (count, length) int64.
        """
        return torch.from_numpy(np.stack([self._row() for _ in range(count)]).astype(np.int64))

    def passes(self) -> list[float]:
        """How often each corpus has been gone through."""
        return [taken / source.rows_a_pass for taken, source in zip(self._taken, self._sources, strict=True)]

    def tokens_for(self, passes: float) -> int:
        """Tokens that can be taken before some corpus has been gone through more than `passes` times."""
        rows = min(
            passes * source.rows_a_pass / share for source, share in zip(self._sources, self._shares, strict=True)
        )
        return int(rows) * self._sources[0].length

    def _row(self) -> NDArray[np.uint16]:
        count = sum(self._taken) + 1
        behind = [share * count - taken for share, taken in zip(self._shares, self._taken, strict=True)]
        source = behind.index(max(behind))
        self._taken[source] += 1
        return self._sources[source].row(self._taken[source] - 1)


class _Passes:
    def __init__(self, corpus: Corpus, length: int, seed: int) -> None:
        self.length = length
        self.rows_a_pass = len(corpus.tokens) // length
        if self.rows_a_pass == 0:
            raise InputError(f"{corpus.name} has {len(corpus.tokens)} tokens, fewer than a row of {length}")
        self._corpus = corpus
        self._seed = seed
        self._pass = -1
        self._order = np.empty(0, np.int64)
        self._ends = np.empty(0, np.int64)

    def row(self, index: int) -> NDArray[np.uint16]:
        self._begin(index // self.rows_a_pass)
        position = index % self.rows_a_pass * self.length
        missing = self.length
        document = int(np.searchsorted(self._ends, position, side="right"))
        parts: list[NDArray[np.uint16]] = []
        while missing:
            end = int(self._corpus.starts[self._order[document] + 1])
            first = end - int(self._ends[document] - position)
            parts.append(self._corpus.tokens[first : min(first + missing, end)])
            missing -= len(parts[-1])
            position += len(parts[-1])
            document += 1
        return np.concatenate(parts)

    def _begin(self, number: int) -> None:
        if number == self._pass:
            return
        generator = torch.Generator().manual_seed(derive_seed("order", self._seed, self._corpus.name, number))
        self._order = torch.randperm(len(self._corpus.starts) - 1, generator=generator).numpy()
        self._ends = np.cumsum(np.diff(self._corpus.starts)[self._order])
        self._pass = number
