"""Batched decoding: requests join and leave between two tokens, each with its own adapter.

A step is one quantum of the device:

    1 forward     the next token of every row, through the bank's `rows` route
    1 forward     chunks of prompts that have not been read yet, one behind the other in one row of tokens: of the
                  one whose turn it is, and of others that fit beside it. Prompts take turns

The last chunk of a prompt gives its first token, and makes it a row from the next step on; requests that begin
alike are read once, and each gets a copy. Prompts share the products of a forward, and nothing else: where one is
cut depends on its own length only, each attends to itself by a call of its own, as its adapter is added to its own
tokens, and among rows attention is the same sum whatever the others' lengths. So a request's numbers do not depend
on the others as far as the products round a token alike for every number of tokens. The bf16 kernels of a CPU with
AVX512-BF16 do, bit for bit; float32 products may differ in the last bit, and on CUDA kernels are chosen by the
number of tokens: two of nearly equal score may change places there.

A step that fails has changed nothing. If memory ran out, the request that came last is parked: its keys and values
are dropped, and made again from its tokens when another request has ended. For any other fault rows are taken one
at a time once, and those that still fail are the ones it belongs to. So are prompts, whatever the fault.

`transformers`' continuous batching packs all requests into one row, where a token's adapter cannot be told by its
row; it samples from the global generator, and runs a thread of its own that shares the device with nobody.
"""

from collections import deque
from collections.abc import Sequence

import torch
from torch import Tensor

from steerzo_edge.decoding.answer import FinishReason
from steerzo_edge.decoding.attention import attention_to
from steerzo_edge.decoding.cache import Chunk, RowCache, blocks_of
from steerzo_edge.decoding.logprobs import TokenLogprob, logprobs_of
from steerzo_edge.decoding.pool import Pool, pool_bytes
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
    """Answers requests together, a token at a time.

    Args:
        base: The frozen model. Only the thread that owns it may call this.
        prefill_tokens: Most tokens of prompts that are read in one step.
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
        """A chunk of each of some prompts."""
        pieces: list[Piece] = []
        taken = next_of(self._readings, self._prefill_tokens)
        are_read = len(taken) > 1 and self._are_read(taken)
        for reading in taken:
            if reading in self._readings:  # and not parked for one before it
                pieces += self._go_on(reading, is_read=are_read)
        return pieces

    def _are_read(self, taken: Sequence[Reading]) -> bool:
        """Whether a chunk of each could be read; if not nothing has changed, and they are read one at a time."""
        try:
            self._read(taken)
        except Exception:
            return False
        return True

    def _go_on(self, reading: Reading, *, is_read: bool) -> list[Piece]:
        """With one of which a chunk is read now, unless it has been."""
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
            pieces += self._made_room(error)
        except Exception as error:  # belongs to those it is read for
            pieces += [self._failed(row, error) for row in list(reading.rows)]
        return pieces

    def _read(self, readings: Sequence[Reading]) -> None:
        """A chunk of each; of one that has been read, and found no room among the rows, none."""
        unread = [reading for reading in readings if reading.rest]
        if not unread:
            return
        chunks = [reading.chunk(self._prefill_tokens) for reading in unread]
        route = segments([reading.route for reading in unread], [len(chunk.tokens) for chunk in chunks])
        with self._base.bank.route(route):
            scores = self._read_into(chunks)
        for reading, own in zip(unread, scores.unsqueeze(1).unbind(), strict=True):
            reading.scores = own

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

    def _read_into(self, chunks: Sequence[Chunk]) -> Tensor:
        """(n, V) logits behind the last token of each of n chunks."""
        device = self._base.device
        ids = [token for chunk in chunks for token in chunk.tokens]
        places = [place for chunk in chunks for place in _places(chunk)]
        inputs, positions = torch.tensor([ids, places], device=device).unsqueeze(1)
        scores = self._forward(inputs, positions, chunks)
        for chunk in chunks:
            chunk.cache.length += len(chunk.tokens)
        return scores

    def _forward(self, ids: Tensor, positions: Tensor, past: Sequence[Chunk] | Pool) -> Tensor:
        """(n, 1) new tokens of rows, or (1, S) of n chunks, to (n, V) logits behind the last of each."""
        model = self._base.model
        last = 1 if isinstance(past, Pool) or len(past) == 1 else _ends(past, ids.device)
        with attention_to(past, model.config):
            logits = model(input_ids=ids, position_ids=positions, use_cache=False, logits_to_keep=last).logits
        return logits[:, -1] if isinstance(last, int) else logits[0]  # type: ignore[no-any-return]

    @torch.inference_mode()
    def _measured(self) -> int:
        """Bytes of one token's keys and values, as one forward leaves them."""
        cache = RowCache()
        self._read_into([Chunk(cache, (0,))])
        return cache.bytes // blocks_of(1)


def _places(chunk: Chunk) -> range:
    return range(chunk.cache.length, chunk.cache.length + len(chunk.tokens))


def _ends(chunks: Sequence[Chunk], device: torch.device) -> Tensor:
    """(n,) places of the last tokens of chunks that lie one behind the other."""
    return torch.tensor([len(chunk.tokens) for chunk in chunks], device=device).cumsum(0) - 1
