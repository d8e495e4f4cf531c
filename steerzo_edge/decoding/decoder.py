"""Batched decoding: requests join and leave between two tokens, each with its own adapter.

A step is one quantum of the device:

    1 forward     the next token of every row, through the bank's `rows` route
    1 forward     at most, of a chunk of one prompt that has not been read yet; prompts take turns

The last chunk of a prompt gives its first token, and makes it a row from the next step on. A prompt is always read
alone, in chunks that depend on its own length only, and attention is the same sum whatever the others' lengths.
So a row's numbers do not depend on the other rows as far as the products round a row alike for every number of
rows. The bf16 kernels of a CPU with AVX512-BF16 do, bit for bit; float32 products may differ in the last bit, and
on CUDA kernels are chosen by the number of rows: two tokens of nearly equal score may change places there.

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
from steerzo_edge.decoding.attention import attention_to
from steerzo_edge.decoding.cache import RowCache, blocks_of
from steerzo_edge.decoding.pool import Pool, pool_bytes
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
        self._pool = Pool()
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
        with torch.inference_mode():
            self._leave(row)
        return row.end(reason)

    def clear(self) -> None:
        """Forgets all requests."""
        self._unread.clear()
        self._rows.clear()
        self._pool = Pool()
        self._route = None

    def step(self) -> list[Piece]:
        """One quantum; returns what it has brought, which may be nothing while a long prompt is read."""
        with torch.inference_mode():
            pieces = self._decode() if self._rows else []
            if self._unread:
                pieces += self._read()
        return pieces

    def cache_bytes(self, requests: Sequence[Request]) -> int:
        """What the keys and values of some requests take at most, when they are answered together."""
        if self._token_bytes is None:
            self._token_bytes = self._measured()
        return pool_bytes([blocks_of(request.longest) * self._token_bytes for request in requests])

    @property
    def held_bytes(self) -> int:
        """What the keys and values of all requests take now."""
        return self._pool.bytes + sum(row.cache.bytes for row in self._unread)

    def _decode(self) -> list[Piece]:
        if self._route is None:
            self._route = rows([row.request.adapter for row in self._rows])
        ids = torch.tensor([[row.token] for row in self._rows], device=self._base.device)
        positions = torch.tensor(self._pool.lengths, device=self._base.device)[:, None]
        self._pool.begin(ids.device)
        with self._base.bank.route(self._route):
            scores = self._forward(ids, positions, self._pool)
        self._pool.end()
        taken = list(self._rows)
        tokens = chosen(scores, [row.chooser for row in taken])
        return [self._put(row, token) for row, token in zip(taken, tokens, strict=True)]

    def _read(self) -> list[Piece]:
        row = self._unread.popleft()
        done = row.cache.length
        chunk = row.request.tokens[done : done + self._prefill_tokens]
        with self._base.bank.route(rows([row.request.adapter])):
            scores = self._chunk(chunk, row.cache)
        if row.cache.length < len(row.request.tokens):
            self._unread.append(row)
            return []
        self._rows.append(row)
        self._pool.join(row.cache)
        row.cache = RowCache()
        self._route = None
        return [self._put(row, *chosen(scores, [row.chooser]))]

    def _put(self, row: _Row, token: int) -> Piece:
        piece = row.put(token)
        if piece.made is not None:
            self._leave(row)
        return piece

    def _leave(self, row: _Row) -> None:
        if row in self._rows:
            place = self._rows.index(row)
            self._pool.leave(place)
            self._rows[place] = self._rows[-1]
            self._rows.pop()
            self._route = None
        else:
            self._unread.remove(row)

    def _chunk(self, tokens: Tokens, cache: RowCache) -> Tensor:
        """(1, V) logits behind the last of some tokens."""
        device = self._base.device
        positions = torch.arange(cache.length, cache.length + len(tokens), device=device)[None]
        scores = self._forward(torch.tensor([tokens], device=device), positions, cache)
        cache.length += len(tokens)
        return scores

    def _forward(self, ids: Tensor, positions: Tensor, past: RowCache | Pool) -> Tensor:
        """(n, q) new tokens to (n, V) logits behind the last of them."""
        model = self._base.model
        with attention_to(past, model.config):
            output = model(input_ids=ids, position_ids=positions, use_cache=False, logits_to_keep=1)
        return output.logits[:, -1]  # type: ignore[no-any-return]

    def _measured(self) -> int:
        """Bytes of one token's keys and values, as one forward leaves them."""
        cache = RowCache()
        with torch.inference_mode():
            self._chunk((0,), cache)
        return cache.bytes // blocks_of(1)
