"""Wakes those who watch a job when something has happened to it.

Watchers read events from the store, each at its own pace, and wait here when there are no more: nobody holds
a copy of a stream, and a slow reader holds up no one.
"""

import asyncio
from collections import defaultdict
from contextlib import suppress


class EventNotifier:
    """One bell for all jobs of a server; rung from any thread, heard on the event loop."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self.closed = False
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Says which event loop the watchers are on."""
        self._loop = loop

    def ring(self, job: str) -> None:
        """Wakes the watchers of a job."""
        # Who begins to listen after this look reads the store afterwards, and finds what has happened.
        if self._loop is not None and job in self._waiting:
            with suppress(RuntimeError):  # the loop has closed: nobody watches any more
                self._loop.call_soon_threadsafe(self._wake, job)

    def close(self) -> None:
        """Wakes everybody, for the last time."""
        self.closed = True
        if self._loop is not None:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._wake_all)

    def listen(self, job: str) -> asyncio.Event:
        """An event that is set at the next ring. Call this BEFORE reading, so that nothing falls between."""
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
