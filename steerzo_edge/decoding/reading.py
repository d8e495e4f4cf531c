"""Prompts that are being read into caches: which of them a step reads, and how many of their tokens."""

from collections.abc import Iterable

from torch import Tensor

from steerzo_edge.decoding.cache import Chunk, RowCache
from steerzo_edge.decoding.row import Row
from steerzo_edge.model.routes import rows


class Reading:
    """A prompt that is being read, for one request or for several with the same tokens and adapter.

    Args:
        row: The first of these requests.

    Attributes:
        tokens: The tokens to read: the prompt, and of a request that was parked also its answer so far.
        rows: The requests.
        scores: (1, V) logits after the last token that was read; None before the first.
    """

    def __init__(self, row: Row) -> None:
        self.tokens = row.so_far
        self.adapter = row.request.adapter
        self.route = rows([self.adapter])
        self.cache = RowCache()
        self.rows = [row]
        self.scores: Tensor | None = None

    def takes(self, row: Row) -> bool:
        """Adds a row if it has the same tokens and adapter; returns whether it has."""
        same = row.request.adapter is self.adapter and row.so_far == self.tokens
        if same:
            self.rows.append(row)
        return same

    @property
    def rest(self) -> int:
        """Number of tokens that are not read yet."""
        return len(self.tokens) - self.cache.length

    def chunk(self, most: int) -> Chunk:
        """The next tokens to read.

        Args:
            most: Number of tokens in a chunk; only the last has fewer.
        """
        return Chunk(self.cache, self.tokens[self.cache.length : self.cache.length + most])


def next_of(readings: Iterable[Reading], most: int) -> list[Reading]:
    """Chooses the prompts of which a step reads a chunk: the first, and all others, in order, whose chunk still
    fits.

    A chunk is never shortened to fit: where a prompt is cut depends on its own length alone.

    Args:
        readings: In the order of their turns; not empty.
        most: Most tokens of a chunk, and of all chunks together.
    """
    taken: list[Reading] = []
    room = most
    for reading in readings:
        tokens = min(most, reading.rest)
        if not taken or tokens <= room:
            taken.append(reading)
            room -= tokens
    return taken
