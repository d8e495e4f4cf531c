"""Streams of a job's events, read and encoded once for all readers of the job.

    database --> pump (one for each watched job) --> the last 1000 events, encoded --> any number of readers
        +------------------------------- older events, page by page -----------+

A reader that falls behind or starts late reads from the database at its own pace. No reader delays another: data
that a reader does not take stays in its socket, and the system closes a socket that takes none (see
`commands/serve.py`). The pump pauses between reads, longer with more readers, so that a hundred readers do not slow
down the job that they watch.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from fastapi.sse import format_sse_event
from starlette.concurrency import run_in_threadpool

from server.jobs.notifier import EventNotifier
from server.store.database import dumped
from server.store.jobs import JobTable
from server.store.rows import Event
from steerzo_edge.errors import BusyError, NotFoundError

KEPT = 1000
PAGE = 500
PAUSE_S = 0.02
PAUSE_PER_READER_S = 0.002
HEARTBEAT_S = 15.0
HEARTBEAT = b": still here\n\n"


@dataclass(slots=True)
class _Feed:
    """What the readers of one job share; used on the event loop."""

    start: int
    recent: deque[tuple[int, bytes]] = field(default_factory=lambda: deque(maxlen=KEPT))
    news: asyncio.Event = field(default_factory=asyncio.Event)
    readers: int = 0
    ended: bool = False
    pump: asyncio.Task[None] | None = None

    @property
    def last(self) -> int:
        """The `seq` of the newest event that the pump has read."""
        return self.recent[-1][0] if self.recent else self.start

    @property
    def first(self) -> int:
        """The `seq` after which all events are in `recent`."""
        full = len(self.recent) == KEPT
        return self.recent[0][0] if full else self.start

    def wake(self) -> None:
        """Wakes all readers."""
        news, self.news = self.news, asyncio.Event()
        news.set()


class EventFeeds:
    """All feeds of a server; used on the event loop only.

    Args:
        job_table: The table of jobs, with their events.
        notifier: Tells when there are new events.
        max_readers: Most readers of all jobs together.
    """

    def __init__(self, job_table: JobTable, notifier: EventNotifier, *, max_readers: int) -> None:
        self._job_table = job_table
        self._notifier = notifier
        self._max_readers = max_readers
        self._feeds: dict[str, _Feed] = {}
        self.readers = 0

    def check_room(self) -> None:
        """Refuses a reader beyond the limit, before its stream begins.

        Raises:
            BusyError: If `max_readers` are connected.
        """
        if self.readers >= self._max_readers:
            raise BusyError(f"{self._max_readers} readers of events are connected already")

    async def watch(self, job: str, after: int) -> AsyncIterator[bytes]:
        """The events of a job with a `seq` above `after`, and those to come, until the job ends.

        Args:
            job: The job's id.
            after: An `Event.seq`; 0 begins with the first event.

        Yields:
            Encoded server-sent events, one or many at a time; a comment after 15 seconds without any.
        """
        feed = self._enter(job, after)
        try:
            while True:
                news, ended = feed.news, feed.ended
                if after < feed.first:
                    page = await run_in_threadpool(self._job_table.events.read, job, after=after, limit=PAGE)
                    fresh = [(event.seq, encoded(event)) for event in page]
                else:
                    fresh = [one for one in feed.recent if one[0] > after]
                if fresh:
                    after = fresh[-1][0]
                    yield b"".join(text for _, text in fresh)
                elif ended:
                    return
                elif not await _notified(news):
                    yield HEARTBEAT
        finally:
            self._leave(job, feed)

    def _enter(self, job: str, after: int) -> _Feed:
        feed = self._feeds.get(job)
        if feed is None:
            feed = self._feeds[job] = _Feed(start=after)
            feed.pump = asyncio.get_running_loop().create_task(self._pumped(job, feed))
        feed.readers += 1
        self.readers += 1
        return feed

    def _leave(self, job: str, feed: _Feed) -> None:
        feed.readers -= 1
        self.readers -= 1
        if feed.readers == 0 and self._feeds.get(job) is feed:
            del self._feeds[job]
            assert feed.pump is not None
            feed.pump.cancel()

    async def _pumped(self, job: str, feed: _Feed) -> None:
        try:
            while not feed.ended:
                notified = self._notifier.listen(job)
                try:
                    over, events = await run_in_threadpool(self._look, job, feed.last)
                    if events:
                        feed.recent.extend((event.seq, encoded(event)) for event in events)
                        feed.wake()
                        await asyncio.sleep(PAUSE_S + PAUSE_PER_READER_S * feed.readers)
                    elif over or self._notifier.closed:
                        return
                    else:
                        await notified.wait()
                finally:
                    self._notifier.leave(job, notified)
        finally:
            # Also if the database cannot be read: the streams end, and clients reconnect with Last-Event-ID.
            feed.ended = True
            feed.wake()
            if self._feeds.get(job) is feed:
                del self._feeds[job]

    def _look(self, job: str, after: int) -> tuple[bool, list[Event]]:
        """Whether the job has ended, determined BEFORE its events are read; and its events after `after`."""
        try:
            over = self._job_table.get(job).is_final
        except NotFoundError:
            return True, []
        return over, self._job_table.events.read(job, after=after, limit=PAGE)


def encoded(event: Event) -> bytes:
    """An event as a server-sent event; a step has its index as id."""
    id = str(event.step) if event.kind == "step" else None
    return format_sse_event(event=event.kind, id=id, data_str=dumped(event.data))


async def _notified(news: asyncio.Event) -> bool:
    try:
        async with asyncio.timeout(HEARTBEAT_S):
            await news.wait()
    except TimeoutError:
        return False
    return True
