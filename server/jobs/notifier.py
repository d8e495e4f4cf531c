"""Wakes the readers of a job's events when there are new ones.

Readers read events from the database, each at its own pace, and wait here when there are no more. So no stream is
copied for a reader, and a slow reader delays no other.
"""

import asyncio
from collections import defaultdict
from contextlib import suppress


class EventNotifier:
    """Notifies the readers of all jobs; `notify` may be called from any thread, readers are on the event loop."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self.closed = False
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Sets the event loop that the readers are on."""
        self._loop = loop

    def notify(self, job: str) -> None:
        """Wakes the readers of a job."""
        # A reader that begins to listen after this check reads the database afterwards, and so misses nothing.
        if self._loop is not None and job in self._waiting:
            with suppress(RuntimeError):  # the loop has closed: there are no readers any more
                self._loop.call_soon_threadsafe(self._wake, job)

    def close(self) -> None:
        """Wakes all readers for the last time, so that their streams end."""
        self.closed = True
        if self._loop is not None:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._wake_all)

    def listen(self, job: str) -> asyncio.Event:
        """An event that is set at the next notification.

        Note:
            Call this BEFORE reading from the database, so that no event is missed in between.
        """
        event = asyncio.Event()
        self._waiting[job].add(event)
        return event

    def leave(self, job: str, event: asyncio.Event) -> None:
        """Stops listening."""
        self._waiting[job].discard(event)
        if not self._waiting[job]:
            del self._waiting[job]

    def _wake_all(self) -> None:
        for job in list(self._waiting):
            self._wake(job)

    def _wake(self, job: str) -> None:
        for event in self._waiting.pop(job, ()):
            event.set()
