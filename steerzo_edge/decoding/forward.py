"""A forward of the model over new tokens of texts whose earlier keys and values are cached.

Chunks of prompts go through the model as `transformers` runs it. One new token of each row takes the shorter way of
`row_forward.py`, if the base has a family that it knows and it gave the same bits for the base's first such token.
"""

import logging
from collections.abc import Sequence
from functools import cached_property
from typing import Final
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from steerzo_edge.decoding.attention import attention_to
from steerzo_edge.decoding.cache import Chunk, RowCache, blocks_of
from steerzo_edge.decoding.cache_pool import CachePool
from steerzo_edge.decoding.row_forward import RowForward, can_run_directly, head_logits
from steerzo_edge.errors import NotFiniteError
from steerzo_edge.model.base import Base
from steerzo_edge.model.head import is_plain
from steerzo_edge.model.patches import Patches

log: Final = logging.getLogger(__name__)
# For each base that has made a token: the shorter way, or None where it cannot be taken.
_SHORTER: Final[WeakKeyDictionary[Base, RowForward | None]] = WeakKeyDictionary()


class CachedForward:
    """Puts new tokens through the model and adds their keys and values to the caches.

    Args:
        base: The frozen model; only the thread that owns it may call this.
    """

    def __init__(self, base: Base) -> None:
        self._base = base

    def rows(self, ids: Tensor, positions: Tensor, pool: CachePool) -> Tensor:
        """Puts one new token of each of n rows through the model.

        Args:
            ids: (n, 1) int64 token ids.
            positions: (n, 1) int64, how many tokens each row has before it.
            pool: Where the rows' keys and values are; `CachePool.begin` was called for these rows.

        Returns:
            (n, V) logits.
        """
        shorter = self._shorter(ids, positions, pool)
        if shorter is None:
            return self._run(ids, positions, pool)
        return shorter.logits(shorter.states(ids, positions, pool))

    def likeliest(self, ids: Tensor, positions: Tensor, pool: CachePool) -> Tensor:
        """As `rows`, but returns only the first token with the largest logit of each row.

        Returns:
            (n,) int64; -1 where the model's numbers are not finite.
        """
        shorter = self._shorter(ids, positions, pool)
        if shorter is None:
            scores = self._run(ids, positions, pool)
            return scores.argmax(-1).masked_fill_(~are_finite(scores), -1)
        states = shorter.states(ids, positions, pool)
        lost = ~states.isfinite().all(-1)
        if not lost.any():
            return shorter.likeliest(states)
        return shorter.likeliest(states.masked_fill(lost.unsqueeze(-1), 0)).masked_fill(lost, -1)

    def _shorter(self, ids: Tensor, positions: Tensor, pool: CachePool) -> RowForward | None:
        """The shorter way, if it can be taken and its last hidden states of these tokens are `transformers`'."""
        if self._base in _SHORTER:
            return _SHORTER[self._base]
        found = RowForward(self._base) if can_run_directly(self._base) else None
        if found is not None and not torch.equal(
            found.states(ids, positions, pool), self._states(ids, positions, pool)
        ):
            log.warning("%s is decoded by transformers: its layers are not as expected", self._base.name)
            found = None
        _SHORTER[self._base] = found
        return found

    def chunks(self, chunks: Sequence[Chunk]) -> Tensor:
        """Puts a chunk of each of n prompts through the model, concatenated into one row of S tokens.

        Args:
            chunks: Whose caches grow by their tokens.

        Returns:
            (n, V) logits after the last token of each.
        """
        ids = [token for chunk in chunks for token in chunk.tokens]
        places = [place for chunk in chunks for place in _places(chunk)]
        inputs, positions = torch.tensor([ids, places], device=self._base.device).unsqueeze(1)
        self._base.bank.reads_prompts = True
        try:
            scores = self._run(inputs, positions, chunks)
        finally:
            self._base.bank.reads_prompts = False
        for chunk in chunks:
            chunk.cache.length += len(chunk.tokens)
        return scores

    @cached_property
    def token_bytes(self) -> int:
        """Bytes of the keys and values of one token, measured by one forward of a single token."""
        cache = RowCache()
        with torch.inference_mode():
            self.chunks([Chunk(cache, (0,))])
        return cache.bytes // blocks_of(1)

    def _run(self, ids: Tensor, positions: Tensor, past: Sequence[Chunk] | CachePool) -> Tensor:
        """(n, 1) new tokens of rows, or (1, S) of n chunks, to (n, V) logits after the last token of each."""
        model = self._base.model
        if is_plain(model.config):
            return head_logits(model.get_output_embeddings(), self._states(ids, positions, past))
        last = 1 if isinstance(past, CachePool) or len(past) == 1 else _ends(past, ids.device)
        with attention_to(past, model.config):
            logits = model(input_ids=ids, position_ids=positions, use_cache=False, logits_to_keep=last).logits
        return logits[:, -1] if isinstance(last, int) else logits[0]  # type: ignore[no-any-return]

    def _states(self, ids: Tensor, positions: Tensor, past: Sequence[Chunk] | CachePool) -> Tensor:
        """(n, D) last hidden states, as `_run`; a copy: with a view of many tokens torch copies the whole head."""
        model = self._base.model
        with attention_to(past, model.config):
            states = model.base_model(input_ids=ids, position_ids=positions, use_cache=False).last_hidden_state
        if isinstance(past, CachePool):
            return states[:, -1].contiguous()  # type: ignore[no-any-return]
        return states[0].index_select(0, _ends(past, ids.device))  # type: ignore[no-any-return]


def are_finite(scores: Tensor) -> Tensor:
    """Whether each row of logits has a largest one: (n, V) to (n,) bool. Minus infinity excludes a token only."""
    return scores.amax(-1).isfinite()


def not_finite(adapter: Patches | None) -> NotFiniteError:
    """The error for an answer that cannot go on."""
    whose = "the base's" if adapter is None else "the adapter's"
    return NotFiniteError(f"{whose} numbers are not finite for this prompt, so no token can be chosen")


def _places(chunk: Chunk) -> range:
    return range(chunk.cache.length, chunk.cache.length + len(chunk.tokens))


def _ends(chunks: Sequence[Chunk], device: torch.device) -> Tensor:
    """(n,) places of the last tokens of concatenated chunks."""
    return torch.tensor([len(chunk.tokens) for chunk in chunks], device=device).cumsum(0) - 1
