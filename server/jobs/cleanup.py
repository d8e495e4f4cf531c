"""The files of jobs that do not run: what is still to be made of them, what is no longer needed cleared away."""

import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass

from server.store.directory import DataDirectory, left_behind
from server.store.jobs import Store
from server.store.rows import JobRow
from steerzo_edge.errors import SteerzoError

log = logging.getLogger(__name__)
DAY_S = 86_400.0
# Saves replaying a journal; of no use once the adapter is written.
SHORTCUTS = ("snapshot.safetensors", "best.safetensors")


@dataclass(frozen=True, slots=True)
class Retention:
    """How long ended jobs are kept.

    Args:
        jobs: At most so many; None keeps all.
        days: At most so long after their end; None keeps them for ever.
    """

    jobs: int | None = None
    days: float | None = None


class JobCleanup:
    """Looks after the directories of jobs.

    Args:
        store: Where jobs are.
        library: Where their files are.
        retention: How long ended jobs are kept.
        forget: Called with the id of a job that is gone: nothing of it need be kept in memory.
        now: Seconds since the epoch.
    """

    def __init__(
        self,
        store: Store,
        library: DataDirectory,
        retention: Retention | None = None,
        *,
        forget: Callable[[str], None] = lambda job: None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._library = library
        self._retention = retention or Retention()
        self._now = now
        self._forget = forget
        self._given_up: set[str] = set()

    def unkept(self) -> JobRow | None:
        """A job that was paused or cancelled while it waited to go on: its adapter is still to be made."""
        return next((job for job in self._store.unkept() if job.id not in self._given_up), None)

    def give_up(self, job: JobRow) -> None:
        """Does not name a job as `unkept` again."""
        self._given_up.add(job.id)

    def put_away(self, job: JobRow) -> None:
        """After a job's end: clears away what only a running job needs, and jobs that are too many or too old."""
        try:
            if self._store.job(job.id).state in ("succeeded", "cancelled"):
                for name in SHORTCUTS:
                    (self._library.job(job.id) / name).unlink(missing_ok=True)
            self._expire()
        except (OSError, SteerzoError) as error:
            log.warning("job %s: not cleared away: %s", job.id, error)

    def tidy(self) -> None:
        """At the start: clears away directories that belong to no job, and jobs that are too old."""
        known = {job.id for job in self._store.jobs()}
        for name in left_behind([path.name for path in self._library.job_directories()], known):
            log.info("no job %s is known: its directory is cleared away", name)
            shutil.rmtree(self._library.job(name), ignore_errors=True)
        self._expire()

    def delete(self, job: JobRow) -> None:
        """Forgets a job: first the database, then its files.

        Raises:
            ConflictError: If it runs.
        """
        self._store.delete(job.id)
        self._forget(job.id)
        shutil.rmtree(self._library.job(job.id), ignore_errors=True)

    def _expire(self) -> None:
        if self._retention == Retention():
            return  # all are kept for ever
        ended = sorted(self._store.jobs("succeeded", "failed", "cancelled"), key=lambda job: -(job.ended or 0))
        keep, days = self._retention.jobs, self._retention.days
        for place, job in enumerate(ended):
            too_old = days is not None and (job.ended or job.created) < self._now() - days * DAY_S
            if too_old or (keep is not None and place >= keep):
                log.info("job %s is cleared away: the settings keep %s jobs, %s days", job.id, keep, days)
                self.delete(job)
