"""uvicorn's HTTP/1.1 protocol, with a time limit for the arrival of a request's head."""

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_S: Final = 15.0
MOST_HEAD_BYTES: Final = 64 << 10


class Connection(H11Protocol):
    """One connection. Between requests uvicorn itself closes it, after its keep-alive time."""

    head_s = HEAD_S

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begins to wait for the first request's head."""
        super().connection_made(transport)
        self._await_a_head()

    def data_received(self, data: bytes) -> None:
        """Receives part of a head or of a body."""
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:
            self._await_a_head()
        else:
            self._stop_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops waiting."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _await_a_head(self) -> None:
        """Starts the time limit, unless it is running: the arrival of single bytes does not extend it."""
        if self._deadline is None:
            self._deadline = self.loop.call_later(self.head_s, self._give_up)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        self._deadline = None
        if not self.transport.is_closing():
            self.transport.abort()
