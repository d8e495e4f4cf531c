"""Batched decoding: requests join and leave between two tokens, each with its own adapter.

A step is one quantum of the device:

    1 forward     the next token of every row, through the bank's `rows` route
    1 forward     of a chunk of one prompt that has not been read yet; prompts take turns. While more are unread
                  than are being answered, further short ones are read, up to the tokens of one chunk

The last chunk of a prompt gives its first token, and makes it a row from the next step on; requests that begin
alike are read once, and each gets a copy. A prompt is always read alone, in chunks that depend on its own length
only, and attention is the same sum whatever the others' lengths. So a row's numbers do not depend on the other
rows as far as the products round a row alike for every number of rows. The bf16 kernels of a CPU with AVX512-BF16
do, bit for bit; float32 products may differ in the last bit, and on CUDA kernels are chosen by the number of rows:
two tokens of nearly equal score may change places there.

A step that fails has changed nothing. If memory ran out, the request that came last is parked: its keys and values
are dropped, and made again from its tokens when another request has ended. For any other fault rows are taken one
at a time once, and those that still fail are the ones it belongs to.

`transformers`' continuous batching packs all requests into one row, where a token's adapter cannot be told by its
row; it samples from the global generator, and runs a thread of its own that shares the device with nobody.
"""

from collections import deque
from collections.abc import Sequence

import torch
from torch import Tensor

from steerzo_edge.data.tokenization import Tokens
from steerzo_edge.decoding.answer import FinishReason
from steerzo_edge.decoding.attention import attention_to
from steerzo_edge.decoding.cache import RowCache, blocks_of
from steerzo_edge.decoding.logprobs import TokenLogprob, logprobs_of
from steerzo_edge.decoding.pool import Pool, pool_bytes
from steerzo_edge.decoding.row import Piece, Reading, Request, Row
from steerzo_edge.decoding.sampling import chosen
from steerzo_edge.model.bank import Patches, rows
from steerzo_edge.model.base import Base

__all__ = ["Decoder", "Piece", "Request"]

PREFILL_TOKENS = 256
OUT_OF_MEMORY = (torch.OutOfMemoryError, MemoryError)


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
        self._readings: deque[Reading] = deque()
        self._rows: list[Row] = []
        self._parked: list[Row] = []
        self._has_room = False
        self._pool = Pool()
        self._route: Patches | None = None
        self._token_bytes: int | None = None

    def __len__(self) -> int:
        """Requests that are under way."""
        return len(self._active()) + len(self._parked)

    @property
    def parked(self) -> int:
        """Requests under way that wait for memory."""
        return len(self._parked)

    def add(self, request: Request) -> int:
        """Takes a request up; returns the ticket its pieces will carry."""
        self._tickets += 1
        self._queue(Row(self._tickets, request, self._base))
        return self._tickets

    @torch.inference_mode()
    def end(self, ticket: int, reason: FinishReason) -> Piece:
        """Ends a request now; returns the last piece.

        Args:
            ticket: Of a request that is under way.
            reason: Why it ends.
        """
        row = next(row for row in [*self._active(), *self._parked] if row.ticket == ticket)
        self._leave(row)
        return row.end(reason)

    def clear(self) -> None:
        """Forgets all requests."""
        self._readings.clear()
        self._rows.clear()
        self._parked.clear()
        self._pool = Pool()
        self._route = None

    @torch.inference_mode()
    def step(self) -> list[Piece]:
        """One quantum; returns what it has brought, which may be nothing while a long prompt is read."""
        if self._parked and (self._has_room or not self._active()):
            self._queue(self._parked.pop(0))
        self._has_room = False
        pieces = self._decode_all() if self._rows else []
        return pieces + (self._read_some() if self._readings else [])

    def cache_bytes(self, requests: Sequence[Request]) -> int:
        """What the keys and values of some requests take at most, when they are answered together."""
        if self._token_bytes is None:
            self._token_bytes = self._measured()
        return pool_bytes([blocks_of(request.longest) * self._token_bytes for request in requests])

    @property
    def held_bytes(self) -> int:
        """What the keys and values of all requests take now."""
        return self._pool.bytes + sum(reading.cache.bytes for reading in self._readings)

    def _active(self) -> list[Row]:
        return [*self._rows, *(row for reading in self._readings for row in reading.rows)]

    def _queue(self, row: Row) -> None:
        if not any(reading.takes(row) for reading in self._readings):
            self._readings.append(Reading(row))

    def _decode_all(self) -> list[Piece]:
        try:
            return self._decode(0, len(self._rows))
        except OUT_OF_MEMORY as error:
            return self._made_room(error)
        except Exception:  # whose it was is found out below
            taken = list(self._rows)
        pieces: list[Piece] = []
        for row in taken:
            try:
                pieces += self._decode(self._rows.index(row), 1)
            except OUT_OF_MEMORY:
                continue  # the next step makes room
            except Exception as error:  # belongs to this row
                pieces.append(self._failed(row, error))
        return pieces

    def _decode(self, first: int, count: int) -> list[Piece]:
        """A token for some of the rows; nothing has changed if it raises."""
        taken = self._rows[first : first + count]
        lengths = self._pool.lengths[first : first + count]
        last = [row.answer.tokens[-1] for row in taken]
        ids, positions = torch.tensor([last, lengths], device=self._base.device).unsqueeze(2)
        self._pool.begin(first, positions[:, 0])
        with self._base.bank.route(self._routed(taken)):
            scores = self._forward(ids, positions, self._pool)
        tokens = chosen(scores, [row.chooser for row in taken])
        logprobs = logprobs_of(scores, tokens, [row.request.sampling.logprobs for row in taken])
        self._pool.end()
        return [self._put(*each) for each in zip(taken, tokens, logprobs, strict=True)]

    def _routed(self, taken: Sequence[Row]) -> Patches:
        """The route of some of the rows; that of all is kept as long as they stay."""
        if len(taken) != len(self._rows):
            return rows([row.request.adapter for row in taken])
        if self._route is None:
            self._route = rows([row.request.adapter for row in taken])
        return self._route

    def _read_some(self) -> list[Piece]:
        """One chunk; more, if short, while more wait to be read than are waiting for their next token."""
        pieces: list[Piece] = []
        tokens = 0
        while self._readings and tokens < self._prefill_tokens:
            tokens += max(1, min(self._prefill_tokens, self._readings[0].rest))
            pieces += self._read()
            if len(self._rows) >= len(self._readings):
                break
        return pieces

    def _read(self) -> list[Piece]:
        reading = self._readings[0]
        pieces: list[Piece] = []
        try:
            if reading.rest:
                self._chunk(reading)
            if reading.rest:
                self._readings.rotate(-1)
                return []
            while reading.rows:
                pieces.append(self._begun(reading))
            self._readings.remove(reading)
        except OUT_OF_MEMORY as error:
            pieces += self._made_room(error)
        except Exception as error:  # belongs to those it is read for
            pieces += [self._failed(row, error) for row in list(reading.rows)]
        return pieces

    def _chunk(self, reading: Reading) -> None:
        done = reading.cache.length
        with self._base.bank.route(reading.route):
            reading.scores = self._read_into(reading.cache, reading.tokens[done : done + self._prefill_tokens])

    def _begun(self, reading: Reading) -> Piece:
        """The first token of one that has been read for, which becomes a row."""
        row = reading.rows[0]
        assert reading.scores is not None
        (token,) = chosen(reading.scores, [row.chooser])
        (logprob,) = logprobs_of(reading.scores, [token], [row.request.sampling.logprobs])
        self._pool.join(reading.cache)
        self._rows.append(reading.rows.pop(0))
        self._route = None
        return self._put(row, token, logprob)

    def _put(self, row: Row, token: int, logprob: TokenLogprob | None) -> Piece:
        try:
            piece = row.put(token, logprob)
        except Exception as error:  # belongs to this row
            return self._failed(row, error)
        if piece.made is not None:
            self._leave(row)
        return piece

    def _failed(self, row: Row, error: Exception) -> Piece:
        self._leave(row)
        return row.fail(error)

    def _leave(self, row: Row) -> None:
        if row in self._parked:
            self._parked.remove(row)
            return
        self._has_room = True
        if row in self._rows:
            self._drop(row)
            return
        reading = next(reading for reading in self._readings if row in reading.rows)
        reading.rows.remove(row)
        if not reading.rows:
            self._readings.remove(reading)

    def _drop(self, row: Row) -> None:
        place = self._rows.index(row)
        self._pool.leave(place)
        self._rows[place] = self._rows[-1]
        self._rows.pop()
        self._route = None
        if not self._rows:
            self._pool = Pool()  # with all that it has made for its last forward

    def _made_room(self, error: Exception) -> list[Piece]:
        """Parks who came last; who is alone and has not enough memory fails."""
        active = self._active()
        newest = max(active, key=lambda row: row.ticket)
        reading = next((reading for reading in self._readings if newest in reading.rows), None)
        if len(self._rows) + len(self._readings) == 1:
            return [self._failed(row, error) for row in active]
        if reading is None:
            self._drop(newest)
        else:
            self._readings.remove(reading)
        self._parked += [newest] if reading is None else reading.rows
        self._parked.sort(key=lambda row: row.ticket)
        return []

    def _read_into(self, cache: RowCache, tokens: Tokens) -> Tensor:
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

    @torch.inference_mode()
    def _measured(self) -> int:
        """Bytes of one token's keys and values, as one forward leaves them."""
        cache = RowCache()
        self._read_into(cache, (0,))
        return cache.bytes // blocks_of(1)
