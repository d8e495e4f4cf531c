"""Clears away files and jobs that are no longer needed; finds stopped jobs whose adapter is not written yet."""

import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass

from server.store.directory import DataDirectory, left_behind
from server.store.jobs import JobTable
from server.store.rows import JobRow
from steerzo_edge.errors import SteerzoError

log = logging.getLogger(__name__)
DAY_S = 86_400.0
# These files only spare a run from replaying its journal; they are useless once the adapter is written.
SHORTCUTS = ("snapshot.safetensors", "best.safetensors")


@dataclass(frozen=True, slots=True)
class Retention:
    """How long ended jobs are kept.

    Args:
        jobs: Most ended jobs that are kept; None keeps all.
        days: Days that a job is kept after its end; None keeps it for ever.
    """

    jobs: int | None = None
    days: float | None = None


class JobCleanup:
    """Clears away jobs and their files.

    Args:
        job_table: The table of jobs.
        directory: The data directory.
        retention: How long ended jobs are kept; by default for ever.
        forget: Called with the id of a deleted job, to drop its adapter from memory.
        now: Seconds since the epoch.
    """

    def __init__(
        self,
        job_table: JobTable,
        directory: DataDirectory,
        retention: Retention | None = None,
        *,
        forget: Callable[[str], None] = lambda job: None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._job_table = job_table
        self._directory = directory
        self._retention = retention or Retention()
        self._now = now
        self._forget = forget
        self._given_up: set[str] = set()

    def without_adapter(self) -> JobRow | None:
        """A job that was paused or cancelled while it waited to resume: its adapter is still to be written."""
        return next((job for job in self._job_table.without_adapter() if job.id not in self._given_up), None)

    def give_up(self, job: JobRow) -> None:
        """Leaves a job out of `without_adapter` until the next start."""
        self._given_up.add(job.id)

    def after_end(self, job: JobRow) -> None:
        """After a job's end: removes files that only a running job needs, and jobs beyond the retention."""
        try:
            if self._job_table.get(job.id).state in ("succeeded", "cancelled"):
                for name in SHORTCUTS:
                    (self._directory.job(job.id) / name).unlink(missing_ok=True)
            self._expire()
        except (OSError, SteerzoError) as error:
            log.warning("job %s: its files were not cleared away: %s", job.id, error)

    def tidy(self) -> None:
        """At the start: removes directories that belong to no job, and jobs beyond the retention."""
        known = {job.id for job in self._job_table.rows()}
        for name in left_behind([path.name for path in self._directory.job_directories()], known):
            log.info("job %s is not in the database: its directory is removed", name)
            shutil.rmtree(self._directory.job(name), ignore_errors=True)
        self._expire()

    def delete(self, job: JobRow) -> None:
        """Deletes a job: first its rows, then its files.

        Raises:
            ConflictError: If it is running.
        """
        self._job_table.delete(job.id)
        self._forget(job.id)
        shutil.rmtree(self._directory.job(job.id), ignore_errors=True)

    def _expire(self) -> None:
        if self._retention == Retention():
            return  # everything is kept for ever
        ended = sorted(self._job_table.rows("succeeded", "failed", "cancelled"), key=lambda job: -(job.ended or 0))
        keep, days = self._retention.jobs, self._retention.days
        for place, job in enumerate(ended):
            too_old = days is not None and (job.ended or job.created) < self._now() - days * DAY_S
            if too_old or (keep is not None and place >= keep):
                log.info("job %s is deleted: the settings keep %s jobs, %s days", job.id, keep, days)
                self.delete(job)
