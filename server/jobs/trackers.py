"""The trackers of jobs: opened when a job runs, closed when it stops running; none delays a job."""

import logging
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from server.logs import PRIVATE
from server.store.events import EventTable
from server.store.rows import JobRow
from steerzo_edge.run import Run
from steerzo_edge.run_tracking import tracking_of
from steerzo_edge.trackers.tracking import Tracking

log = logging.getLogger(__name__)


class JobTrackers:
    """The trackers of all jobs of a server.

    Args:
        events: The table in which a tracker that is left out is noted.
    """

    def __init__(self, events: EventTable) -> None:
        self._events = events
        self._open: dict[str, Tracking] = {}

    @contextmanager
    def of(self, job: JobRow, run: Run) -> Iterator[Tracking]:
        """The tracking of a job while it runs; after an error the job counts as failed, until it is tried again."""
        self._open = {id: tracking for id, tracking in self._open.items() if not tracking.has_ended}
        report = partial(self._report, job.id)
        tracking = tracking_of(run, job.name, report=report, after=self._open.get(job.id))
        self._open[job.id] = tracking
        try:
            yield tracking
        except Exception:
            tracking.close("failed")
            raise
        finally:
            tracking.close()

    def close(self, timeout_s: float) -> None:
        """Waits for all trackers together; what they lack then is sent when their job goes on."""
        until = time.monotonic() + timeout_s
        for tracking in list(self._open.values()):
            tracking.close()
            tracking.join(max(0.0, until - time.monotonic()))

    def _report(self, job: str, kind: str, reason: str, message: str) -> None:
        # Clients may read the events, and an error's message may quote an address with a password.
        log.warning("job %s: tracker %s is left out from here on: %s", job, kind, reason, extra={PRIVATE: message})
        try:
            self._events.add_log(job, f"tracker {kind} is left out from here on; the server's log says why")
        except sqlite3.Error:  # the job was deleted, or the disk is full
            log.warning("job %s: no event could be written", job)
