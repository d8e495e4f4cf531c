"""Prompts on their way into the cache: which of them a step reads, and how far."""

from collections.abc import Iterable

from torch import Tensor

from steerzo_edge.decoding.cache import Chunk, RowCache
from steerzo_edge.decoding.row import Row
from steerzo_edge.model.routes import rows


class Reading:
    """Tokens that are being read for one row, or for several that begin alike.

    Args:
        row: The first of them.

    Attributes:
        scores: (1, V) logits behind the last token that has been read.
    """

    def __init__(self, row: Row) -> None:
        self.tokens = row.so_far
        self.adapter = row.request.adapter
        self.route = rows([self.adapter])
        self.cache = RowCache()
        self.rows = [row]
        self.scores: Tensor | None = None

    def takes(self, row: Row) -> bool:
        """Whether the row begins alike; then it is one more of these from now on."""
        alike = row.request.adapter is self.adapter and row.so_far == self.tokens
        if alike:
            self.rows.append(row)
        return alike

    @property
    def rest(self) -> int:
        """Tokens still to be read."""
        return len(self.tokens) - self.cache.length

    def chunk(self, most: int) -> Chunk:
        """What is read next.

        Args:
            most: Tokens of a chunk; only the last has fewer.
        """
        return Chunk(self.cache, self.tokens[self.cache.length : self.cache.length + most])


def next_of(readings: Iterable[Reading], most: int) -> list[Reading]:
    """Those of which a step reads a chunk: the first, and of the others, in turn, all that still fit.

    A chunk is never cut to fit: where a prompt is cut depends on its own length only.

    Args:
        readings: In turn; not empty.
        most: Tokens of a chunk, and of all of them.
    """
    taken: list[Reading] = []
    room = most
    for reading in readings:
        tokens = min(most, reading.rest)
        if not taken or tokens <= room:
            taken.append(reading)
            room -= tokens
    return taken
