"""Batched decoding: many requests at once, each with its own adapter; requests join and leave between two steps.

A step is one time slice of the device, with up to two forwards:

    rows       one new token for every row, through the bank's `rows` route
    prompts    one chunk of a prompt that has not been read to its end, and chunks of others that fit into the same
               forward, concatenated into one row of tokens; prompts take turns

The last chunk of a prompt gives the first token of its answer; from the next step on it is a row. Requests with the
same prompt and adapter are read once, and each gets a copy of the cache.

A request's numbers do not depend on the other requests, as far as the matrix products round a token in the same way
for every number of tokens: where a prompt is cut depends on its own length alone, each prompt attends to itself in
a call of its own, an adapter is added to its own tokens alone, and a row's attention sums the same terms in the
same order whatever the other rows' lengths are. The bf16 kernels of a CPU with AVX512-BF16 round so, bit for bit.
float32 products may differ in the last bit, and CUDA chooses kernels by the number of tokens: there two tokens of
nearly equal score may change places.

A step that fails leaves the requests as they were. After an out-of-memory error the newest request is parked: its
cache is dropped, and computed again from its tokens after another request has ended. After any other error in the
forward of the rows, the rows are tried one at a time, and those that fail again end with the error. Prompts are
read one at a time after any error.

The continuous batching of `transformers` cannot do this: it packs all requests into one row, where an adapter
cannot be chosen by the token's row; it samples from torch's global generator; and its own thread does not share the
device.
"""

from collections import deque
from collections.abc import Sequence

import torch
from torch import Tensor

from steerzo_edge.decoding.answer import FinishReason
from steerzo_edge.decoding.cache import blocks_of
from steerzo_edge.decoding.cache_pool import CachePool, pool_bytes
from steerzo_edge.decoding.forward import CachedForward, are_finite, not_finite
from steerzo_edge.decoding.logprobs import TokenLogprob, logprobs_of
from steerzo_edge.decoding.reading import Reading, next_of
from steerzo_edge.decoding.row import Piece, Request, Row
from steerzo_edge.decoding.sampling import chosen
from steerzo_edge.model.base import Base
from steerzo_edge.model.patches import Patches
from steerzo_edge.model.routes import rows
from steerzo_edge.model.segments import segments

__all__ = ["Decoder", "Piece", "Request"]

PREFILL_TOKENS = 256
OUT_OF_MEMORY = (torch.OutOfMemoryError, MemoryError)


class Decoder:
    """Generates answers to several requests together, one token of each per step.

    Args:
        base: The frozen model. Only the thread that owns it may call the decoder.
        prefill_tokens: Most tokens of prompts that are read in one step.
    """

    def __init__(self, base: Base, *, prefill_tokens: int = PREFILL_TOKENS) -> None:
        self._base = base
        self._model_forward = CachedForward(base)
        self._prefill_tokens = prefill_tokens
        self._tickets = 0
        self._readings: deque[Reading] = deque()
        self._rows: list[Row] = []
        self._parked: list[Row] = []
        self._freed_memory = False
        self._pool = CachePool()
        self._route: Patches | None = None

    def __len__(self) -> int:
        """Number of unfinished requests."""
        return len(self._active()) + len(self._parked)

    @property
    def parked(self) -> int:
        """Number of unfinished requests that wait for memory."""
        return len(self._parked)

    def add(self, request: Request) -> int:
        """Adds a request; returns its ticket, which its pieces carry."""
        self._tickets += 1
        self._queue(Row(self._tickets, request, self._base))
        return self._tickets

    @torch.inference_mode()
    def end(self, ticket: int, reason: FinishReason) -> Piece:
        """Ends a request now; returns its last piece.

        Args:
            ticket: Of an unfinished request.
            reason: Why it ends.
        """
        row = next(row for row in [*self._active(), *self._parked] if row.ticket == ticket)
        self._leave(row)
        return row.end(reason)

    def clear(self) -> None:
        """Drops all requests."""
        self._readings.clear()
        self._rows.clear()
        self._parked.clear()
        self._pool = CachePool()
        self._route = None

    @torch.inference_mode()
    def step(self) -> list[Piece]:
        """Runs one step; returns a piece for each request that got a token, none while long prompts are read."""
        if self._parked and (self._freed_memory or not self._active()):
            self._queue(self._parked.pop(0))
        self._freed_memory = False
        pieces = self._decode_all() if self._rows else []
        return pieces + (self._read_some() if self._readings else [])

    def cache_bytes(self, requests: Sequence[Request]) -> int:
        """Most bytes that the keys and values of these requests take when they are answered together."""
        token_bytes = self._model_forward.token_bytes
        return pool_bytes([blocks_of(request.longest) * token_bytes for request in requests])

    @property
    def held_bytes(self) -> int:
        """Bytes that the keys and values of all requests take now."""
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
            return self._park_newest(error)
        except Exception:  # the loop below finds the rows that it belongs to
            taken = list(self._rows)
        pieces: list[Piece] = []
        for row in taken:
            try:
                pieces += self._decode(self._rows.index(row), 1)
            except OUT_OF_MEMORY:
                continue  # the next step parks a request
            except Exception as error:  # belongs to this row
                pieces.append(self._failed(row, error))
        return pieces

    def _decode(self, first: int, count: int) -> list[Piece]:
        """Decodes a token for some of the rows; if it raises, nothing has changed."""
        taken = self._rows[first : first + count]
        lengths = self._pool.lengths[first : first + count]
        last = [row.answer.tokens[-1] for row in taken]
        ids, positions = torch.tensor([last, lengths], device=self._base.device).unsqueeze(2)
        self._pool.begin(first, positions[:, 0])
        with self._base.bank.route(self._routed(taken)):
            tokens, logprobs = self._chosen(taken, ids, positions)
        self._pool.end()
        return [self._put(*each) for each in zip(taken, tokens, logprobs, strict=True)]

    def _chosen(
        self, taken: Sequence[Row], ids: Tensor, positions: Tensor
    ) -> tuple[list[int], list[TokenLogprob | None]]:
        """The next token of each of some rows, -1 where the numbers are not finite; logits only if needed."""
        requested = [row.request.sampling.logprobs for row in taken]
        choosers = [row.chooser for row in taken]
        if all(chooser.is_plain for chooser in choosers) and set(requested) == {None}:
            return self._model_forward.likeliest(ids, positions, self._pool).tolist(), [None] * len(taken)
        scores = self._model_forward.rows(ids, positions, self._pool)
        tokens = chosen(scores, choosers)
        found = torch.tensor(tokens).masked_fill_(~are_finite(scores).cpu(), -1)
        return found.tolist(), logprobs_of(scores, tokens, requested)

    def _routed(self, taken: Sequence[Row]) -> Patches:
        """The route of some of the rows; the route of all is reused until a row joins or leaves."""
        if len(taken) != len(self._rows):
            return rows([row.request.adapter for row in taken])
        if self._route is None:
            self._route = rows([row.request.adapter for row in taken])
        return self._route

    def _read_some(self) -> list[Piece]:
        """Reads a chunk of one or more prompts."""
        pieces: list[Piece] = []
        taken = next_of(self._readings, self._prefill_tokens)
        are_read = len(taken) > 1 and self._are_read(taken)
        for reading in taken:
            if reading in self._readings:  # not parked by an earlier turn of this loop
                pieces += self._go_on(reading, is_read=are_read)
        return pieces

    def _are_read(self, taken: Sequence[Reading]) -> bool:
        """Reads a chunk of each; False if that failed, which changes nothing: they are read one at a time then."""
        try:
            self._read(taken)
        except Exception:
            return False
        return True

    def _go_on(self, reading: Reading, *, is_read: bool) -> list[Piece]:
        """Reads a prompt's next chunk, unless that is done; after the last chunk, begins the answers."""
        pieces: list[Piece] = []
        try:
            if not is_read:
                self._read([reading])
            if reading.rest:
                self._readings.remove(reading)
                self._readings.append(reading)
                return []
            while reading.rows:
                pieces.append(self._begun(reading))
            self._readings.remove(reading)
        except OUT_OF_MEMORY as error:
            pieces += self._park_newest(error)
        except Exception as error:  # belongs to the requests with this prompt
            pieces += [self._failed(row, error) for row in list(reading.rows)]
        return pieces

    def _read(self, readings: Sequence[Reading]) -> None:
        """Reads a chunk of each, except of those that were read to the end but found no memory for a row."""
        unread = [reading for reading in readings if reading.rest]
        if not unread:
            return
        chunks = [reading.chunk(self._prefill_tokens) for reading in unread]
        route = segments([reading.route for reading in unread], [len(chunk.tokens) for chunk in chunks])
        with self._base.bank.route(route):
            scores = self._model_forward.chunks(chunks)
        for reading, own in zip(unread, scores.unsqueeze(1).unbind(), strict=True):
            reading.scores = own

    def _begun(self, reading: Reading) -> Piece:
        """Makes a row of the first request of a prompt that has been read; returns its first token's piece."""
        row = reading.rows[0]
        assert reading.scores is not None
        if not are_finite(reading.scores).all():
            raise not_finite(row.request.adapter)
        (token,) = chosen(reading.scores, [row.chooser])
        (logprob,) = logprobs_of(reading.scores, [token], [row.request.sampling.logprobs])
        self._pool.join(reading.cache)
        self._rows.append(reading.rows.pop(0))
        self._route = None
        return self._put(row, token, logprob)

    def _put(self, row: Row, token: int, logprob: TokenLogprob | None) -> Piece:
        if token < 0:
            return self._failed(row, not_finite(row.request.adapter))
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
        self._freed_memory = True
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
            self._pool = CachePool()  # also drops the tensors of the last forward

    def _park_newest(self, error: Exception) -> list[Piece]:
        """Parks the newest request; if there is one row or prompt alone, its requests fail with the error."""
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
