"""Batched decoding: requests join and leave between two tokens, each with its own adapter.

A step is one quantum of the device:

    1 forward     the next token of every row, through the bank's `rows` route
    1 forward     at most, of a chunk of one prompt that has not been read yet; prompts take turns

The last chunk of a prompt gives its first token, and makes it a row from the next step on. A prompt is always read
alone, in chunks that depend on its own length only, and attention is computed row by row. So a row's numbers do
not depend on the other rows as far as the products round a row alike for every number of rows. The bf16 kernels of
a CPU with AVX512-BF16 do, bit for bit; float32 products may differ in the last bit, and on CUDA kernels are chosen
by the number of rows: two tokens of nearly equal score may change places there.

`transformers`' continuous batching packs all requests into one row, where a token's adapter cannot be told by its
row; it samples from the global generator, and runs a thread of its own that shares the device with nobody.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from steerzo_edge.data.tokenization import Tokens
from steerzo_edge.decoding.answer import Answer, FinishReason, Generation
from steerzo_edge.decoding.attention import row_attention
from steerzo_edge.decoding.cache import RowCache, blocks_of
from steerzo_edge.decoding.sampling import Chooser, Sampling, chosen
from steerzo_edge.model.bank import Patches, rows
from steerzo_edge.model.base import Base

PREFILL_TOKENS = 256


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be answered.

    Args:
        tokens: Of the prompt; not empty, and with the answer no longer than the context.
        sampling: How tokens are chosen.
        adapter: Patches of one version that nobody changes while the request lives; None is the bare base.
    """

    tokens: Tokens
    sampling: Sampling
    adapter: Patches | None = None

    @property
    def longest(self) -> int:
        """Tokens of prompt and answer, if nothing ends it early."""
        return len(self.tokens) + self.sampling.max_new_tokens


@dataclass(frozen=True, slots=True)
class Piece:
    """What a step has brought to one request.

    Args:
        ticket: As `Decoder.add` gave it.
        text: Goes on where the piece before ended; may be empty.
        tokens: How many tokens the answer has now.
        made: All of the answer, with its last piece; None before.
    """

    ticket: int
    text: str
    tokens: int
    made: Generation | None = None


class _Row:
    def __init__(self, ticket: int, request: Request, base: Base) -> None:
        self.ticket = ticket
        self.request = request
        self.cache = RowCache()
        self.chooser = Chooser(request.sampling, base.device)
        self.answer = Answer(base.tokenizer, base.end_tokens, request.sampling)
        self.token = -1
        self.tokens = 0

    def put(self, token: int) -> Piece:
        self.token = token
        self.tokens += 1
        return self.piece(self.answer.put(token))

    def end(self, reason: FinishReason) -> Piece:
        return self.piece(self.answer.end(reason))

    def piece(self, text: str) -> Piece:
        made = None if self.answer.reason is None else self.answer.finished(len(self.request.tokens))
        return Piece(self.ticket, text, self.tokens, made)


class Decoder:
    """Answers requests together, a token at a time.

    Args:
        base: The frozen model. Only the thread that owns it may call this.
        prefill_tokens: Most tokens of a prompt that are read in one step.
    """

    def __init__(self, base: Base, *, prefill_tokens: int = PREFILL_TOKENS) -> None:
        self._base = base
        self._prefill_tokens = prefill_tokens
        self._tickets = 0
        self._unread: deque[_Row] = deque()
        self._rows: list[_Row] = []
        self._route: Patches | None = None
        self._token_bytes: int | None = None

    def __len__(self) -> int:
        """Requests that are under way."""
        return len(self._unread) + len(self._rows)

    def add(self, request: Request) -> int:
        """Takes a request up; returns the ticket its pieces will carry."""
        self._tickets += 1
        self._unread.append(_Row(self._tickets, request, self._base))
        return self._tickets

    def end(self, ticket: int, reason: FinishReason) -> Piece:
        """Ends a request now; returns the last piece. Its memory is free when this returns.

        Args:
            ticket: Of a request that is under way.
            reason: Why it ends.
        """
        row = next(row for row in [*self._unread, *self._rows] if row.ticket == ticket)
        self._leave(row)
        return row.end(reason)

    def clear(self) -> None:
        """Forgets all requests."""
        self._unread.clear()
        self._rows.clear()
        self._route = None

    def step(self) -> list[Piece]:
        """One quantum; returns what it has brought, which may be nothing while a long prompt is read."""
        with torch.inference_mode():
            pieces = self._decode() if self._rows else []
            if self._unread:
                pieces += self._read()
        return pieces

    def cache_bytes(self, request: Request) -> int:
        """What the keys and values of a request take at most."""
        if self._token_bytes is None:
            self._token_bytes = self._measured()
        return blocks_of(request.longest) * self._token_bytes

    @property
    def held_bytes(self) -> int:
        """What the keys and values of all requests take now."""
        return sum(row.cache.bytes for row in [*self._unread, *self._rows])

    def _decode(self) -> list[Piece]:
        if self._route is None:
            self._route = rows([row.request.adapter for row in self._rows])
        ids = torch.tensor([[row.token] for row in self._rows], device=self._base.device)
        with self._base.bank.route(self._route):
            scores = self._forward(ids, [row.cache for row in self._rows])
        taken = list(self._rows)
        tokens = chosen(scores, [row.chooser for row in taken])
        return [self._put(row, token) for row, token in zip(taken, tokens, strict=True)]

    def _read(self) -> list[Piece]:
        row = self._unread.popleft()
        done = row.cache.length
        chunk = row.request.tokens[done : done + self._prefill_tokens]
        ids = torch.tensor([chunk], device=self._base.device)
        with self._base.bank.route(rows([row.request.adapter])):
            scores = self._forward(ids, [row.cache])
        if row.cache.length < len(row.request.tokens):
            self._unread.append(row)
            return []
        self._rows.append(row)
        self._route = None
        return [self._put(row, *chosen(scores, [row.chooser]))]

    def _put(self, row: _Row, token: int) -> Piece:
        piece = row.put(token)
        if piece.made is not None:
            self._leave(row)
        return piece

    def _leave(self, row: _Row) -> None:
        if row in self._rows:
            self._rows.remove(row)
            self._route = None
        else:
            self._unread.remove(row)

    def _forward(self, ids: Tensor, caches: Sequence[RowCache]) -> Tensor:
        """(n, q) new tokens to (n, V) logits behind the last of them."""
        model, new = self._base.model, ids.shape[1]
        first = torch.tensor([[cache.length] for cache in caches], device=ids.device)
        positions = first + torch.arange(new, device=ids.device)
        with row_attention(model.config, caches, new):
            output = model(input_ids=ids, position_ids=positions, use_cache=False, logits_to_keep=1)
        return output.logits[:, -1]  # type: ignore[no-any-return]

    def _measured(self) -> int:
        """Bytes of one token's keys and values, as one forward leaves them."""
        cache = RowCache()
        with torch.inference_mode():
            self._forward(torch.zeros(1, 1, dtype=torch.int64, device=self._base.device), [cache])
        return cache.bytes // blocks_of(1)
