"""The events of a watched job, read and put into words once for all who watch it.

    store --> pump (one a watched job) --> the last events, encoded --> any number of readers
      +-------------------------------- older ones, page by page --------+

A reader that falls behind, or begins late, reads from the store at its own pace. Nobody is waited for: what a
reader does not take stays in its socket, and a socket that takes nothing is closed by the system (see `serving`).
The pump looks no oftener than a rest that grows with the number of readers, so that a hundred of them do not
slow down the job that they watch.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from fastapi.sse import format_sse_event
from starlette.concurrency import run_in_threadpool

from server.jobs.notifier import EventNotifier
from server.store.database import dumped
from server.store.jobs import Store
from server.store.rows import Event
from steerzo_edge.errors import BusyError, NotFoundError

KEPT = 1000
PAGE = 500
REST_S = 0.02
REST_A_READER_S = 0.002
HEARTBEAT_S = 15.0
HEARTBEAT = b": still here\n\n"


@dataclass(slots=True)
class _Feed:
    """What the readers of one job share, on the event loop."""

    start: int
    recent: deque[tuple[int, bytes]] = field(default_factory=lambda: deque(maxlen=KEPT))
    news: asyncio.Event = field(default_factory=asyncio.Event)
    readers: int = 0
    ended: bool = False
    pump: asyncio.Task[None] | None = None

    @property
    def last(self) -> int:
        """The position of the newest event that was read."""
        return self.recent[-1][0] if self.recent else self.start

    @property
    def first(self) -> int:
        """The position behind which all events are at hand."""
        full = len(self.recent) == KEPT
        return self.recent[0][0] if full else self.start

    def tell(self) -> None:
        """Wakes all readers."""
        news, self.news = self.news, asyncio.Event()
        news.set()


class Feeds:
    """All feeds of a server; used on the event loop only.

    Args:
        store: Where events are.
        bell: Rings when there are more.
        max_readers: Of all jobs together.
    """

    def __init__(self, store: Store, bell: EventNotifier, *, max_readers: int) -> None:
        self._store = store
        self._bell = bell
        self._max_readers = max_readers
        self._feeds: dict[str, _Feed] = {}
        self.readers = 0

    def check_room(self) -> None:
        """Refuses one reader too many, before its stream begins.

        Raises:
            BusyError: If there are as many as there may be.
        """
        if self.readers >= self._max_readers:
            raise BusyError(f"{self._max_readers} readers of events are connected already")

    async def watch(self, job: str, after: int) -> AsyncIterator[bytes]:
        """The events of a job with a position above `after`, and those to come, until it ends.

        Args:
            job: Its id.
            after: A position; see `Event.seq`.

        Yields:
            Server-sent events, encoded, one or many at a time; a comment where nothing happens for long.
        """
        feed = self._enter(job, after)
        try:
            while True:
                news, ended = feed.news, feed.ended
                if after < feed.first:
                    page = await run_in_threadpool(self._store.events, job, after=after, limit=PAGE)
                    fresh = [(event.seq, encoded(event)) for event in page]
                else:
                    fresh = [one for one in feed.recent if one[0] > after]
                if fresh:
                    after = fresh[-1][0]
                    yield b"".join(text for _, text in fresh)
                elif ended:
                    return
                elif not await _rung(news):
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
                rung = self._bell.listen(job)
                try:
                    over, events = await run_in_threadpool(self._look, job, feed.last)
                    if events:
                        feed.recent.extend((event.seq, encoded(event)) for event in events)
                        feed.tell()
                        await asyncio.sleep(REST_S + REST_A_READER_S * feed.readers)
                    elif over or self._bell.closed:
                        return
                    else:
                        await rung.wait()
                finally:
                    self._bell.leave(job, rung)
        finally:
            # Also when the database cannot be read: readers end, and come back with Last-Event-ID.
            feed.ended = True
            feed.tell()
            if self._feeds.get(job) is feed:
                del self._feeds[job]

    def _look(self, job: str, after: int) -> tuple[bool, list[Event]]:
        """Whether the job has ended, asked BEFORE its events are read, and those."""
        try:
            over = self._store.job(job).is_final
        except NotFoundError:
            return True, []
        return over, self._store.events(job, after=after, limit=PAGE)


def encoded(event: Event) -> bytes:
    """An event as it goes over the wire; the id of a step is its index."""
    id = str(event.step) if event.kind == "step" else None
    return format_sse_event(event=event.kind, id=id, data_str=dumped(event.data))


async def _rung(news: asyncio.Event) -> bool:
    try:
        async with asyncio.timeout(HEARTBEAT_S):
            await news.wait()
    except TimeoutError:
        return False
    return True
