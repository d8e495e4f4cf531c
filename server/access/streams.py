"""How many may read events at the same time."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from steerzo_edge.errors import BusyError


class Streams:
    """The places for readers; used on the event loop only.

    Args:
        most: How many there are.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.taken = 0

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """A place, for as long as the stream is open.

        Raises:
            BusyError: If all are taken.
        """
        if self.taken >= self._most:
            raise BusyError(f"{self._most} readers follow events already")
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1
