"""Runs jobs, one at a time, on the device's thread. An error fails the job, never the thread.

    next_job      writes a state that could not be written before; returns the next job, an iterator of time slices
    time slice    one step: its records are stored, then a request to pause or cancel is honoured

After a transient error (memory, disk) the job goes back into the queue and waits, longer each time.
"""

import logging
import sqlite3
import time
from collections.abc import Generator, Iterator
from contextlib import suppress
from copy import deepcopy

from server.device.background import in_background, waited_for
from server.errors import problem_of
from server.jobs.cleanup import JobCleanup
from server.jobs.results import stored_result
from server.jobs.retries import Retries
from server.jobs.trackers import JobTrackers
from server.metrics import Metrics
from server.store.adapter_store import AdapterStore
from server.store.datasets import DatasetTable
from server.store.directory import DataDirectory
from server.store.jobs import JobTable
from server.store.rows import JobRow
from server.store.states import STATE_REQUESTED
from server.system_errors import known_error_of
from steerzo_edge.curve.peak import reset_peak
from steerzo_edge.data.examples import Dataset
from steerzo_edge.data.task import Task
from steerzo_edge.errors import NotFoundError, SteerzoError
from steerzo_edge.model.base import Base
from steerzo_edge.model.patches import Patches
from steerzo_edge.run import Run
from steerzo_edge.run_data import Data, rows_of_run
from steerzo_edge.settings.profile import Profile, resolve
from steerzo_edge.sweep.ceiling import records_within
from steerzo_edge.trackers.tracker import EndState
from steerzo_edge.trackers.tracking import Tracking

log = logging.getLogger(__name__)
PAUSE_S = 1.0


class Runner:
    """Takes jobs from the queue and runs them in time slices of one step.

    Args:
        job_table: The table of jobs.
        datasets: The table of datasets.
        directory: The data directory.
        cleanup: Clears away the files of ended jobs.
        adapters: The stored adapters.
        snapshot_every: Steps between snapshots of a job.
        retries: How often and how soon a job is tried again.
        metrics: Counts steps and ended jobs.

    Attributes:
        trackers: The trackers of its jobs.
    """

    def __init__(
        self,
        job_table: JobTable,
        datasets: DatasetTable,
        directory: DataDirectory,
        cleanup: JobCleanup,
        adapters: AdapterStore,
        *,
        snapshot_every: int,
        retries: Retries,
        metrics: Metrics | None = None,
    ) -> None:
        self._job_table = job_table
        self._datasets = datasets
        self._directory = directory
        self._cleanup = cleanup
        self._adapters = adapters
        self._snapshot_every = snapshot_every
        self._retries = retries
        self._metrics = metrics or Metrics()
        self.trackers = JobTrackers(job_table.events)
        self._base: Base | None = None
        self._running: tuple[str, Run] | None = None
        self._unwritten: tuple[JobRow, SteerzoError] | None = None
        self._pause_until = 0.0

    def start(self, base: Base) -> None:
        """Takes the loaded base, puts jobs that a crash left running back into the queue, and clears leftovers."""
        self._base = base
        for job in self._job_table.rows("running"):
            self._job_table.change_state(job.id, "interrupted")
        for job in self._job_table.rows("interrupted"):
            self._job_table.change_state(job.id, "queued")
        self._cleanup.tidy()

    def next_job(self) -> Iterator[None] | None:
        """See `Training.next_job`."""
        if time.monotonic() < self._pause_until:
            return None
        try:
            if self._unwritten is not None:
                self._settle(*self._unwritten)
                self._unwritten = None
            job = self._job_table.next_job()
            if job is not None:
                return self._work(job)
            stopped = self._cleanup.without_adapter()
        except (sqlite3.Error, OSError) as error:
            log.warning("the queue cannot be read or written: %s", error)
            return None
        return None if stopped is None else self._write_adapter(stopped)

    def pause(self, job: JobRow) -> JobRow:
        """Pauses a job: at once if it waits, after its present step if it runs. May be called from any thread.

        Raises:
            ConflictError: If its state does not allow it.
        """
        return self._job_table.request(job.id, "pause")

    def resume(self, job: JobRow) -> JobRow:
        """Continues a paused or failed job from its last step. May be called from any thread.

        Raises:
            ConflictError: If its state does not allow it.
        """
        return self._job_table.resume(job.id)

    def cancel(self, job: JobRow) -> JobRow:
        """Cancels a job: at once if it waits, after its present step if it runs. May be called from any thread.

        Raises:
            ConflictError: If it has ended already.
        """
        return self._job_table.request(job.id, "cancel")

    def delete(self, job: JobRow) -> None:
        """Deletes a job with its events, journal and adapter. May be called from any thread.

        Raises:
            ConflictError: If it is running.
        """
        self._cleanup.delete(job)

    def adapter(self, name: str) -> tuple[str, Patches]:
        """Loads an adapter; called on the device's thread.

        Args:
            name: A job's or an adapter's id or name, or "latest" for the job that ran last.

        Returns:
            The id of the job, or of the adapter if the name is an adapter's own; and the patches. For a running job
            they are as of its last finished step.

        Raises:
            NotFoundError: If no job or adapter has that name.
            ConflictError: If the job has no adapter.
            AdapterFileError: If the adapter's file has changed since it was stored.
        """
        found = self._adapters.names.find(name)
        if found.job is not None and self._running is not None and self._running[0] == found.job.id:
            return found.id, self._running[1].patches()
        assert self._base is not None
        return found.id, self._adapters.cache.patches(found.stored(), self._base)

    def _work(self, job: JobRow) -> Iterator[None]:
        try:
            yield from self._steps(job)
        except SteerzoError as error:
            self._failed(job, error)
        except Exception as error:  # any error fails the job only
            known = known_error_of(error)
            self._failed(job, known or SteerzoError(f"{type(error).__name__}: {error}"), cause=error)
        finally:
            self._running = None

    def _steps(self, job: JobRow) -> Iterator[None]:
        self._job_table.change_state(job.id, "running")
        run = yield from self._opened(job)
        try:
            yield from self._tracked_steps(job, run)
        finally:
            run.close()
        self._cleanup.after_end(job)

    def _tracked_steps(self, job: JobRow, run: Run) -> Iterator[None]:
        with self.trackers.of(job, run) as tracking:
            self._running = (job.id, run)
            self._job_table.events.add_records(job.id, run.recorded)
            if run.progress.step:
                self._job_table.events.add_log(job.id, f"continuing at step {run.progress.step}")
            else:
                self._advise(job, run)
            yield
            reset_peak(run.device)
            outcome = self._outcome(job)
            if outcome is None:
                outcome = yield from self._recorded(job, run, tracking)
            result, swept = run.finish(), run if "sweep" in job.spec else None
            self._job_table.change_state(job.id, outcome, result=stored_result(result, swept))
            self._metrics.job_ended(job.id, outcome)
            tracking.close(outcome, result.after)

    def _recorded(self, job: JobRow, run: Run, tracking: Tracking) -> Generator[None, None, EndState]:
        """Stores records until the run ends, or a pause or cancel is requested; returns the job's next state."""
        tried_before = job.attempts > 0
        for record in records_within(run, job.spec.get("most_seconds")):
            self._job_table.events.add_records(job.id, [record])
            self._metrics.recorded(job.id, record)
            tracking.add(record)
            if tried_before:
                self._job_table.clear_attempts(job.id)
                tried_before = False
            outcome = self._outcome(job)
            if outcome is not None:
                return outcome
            yield
        return "succeeded"

    def _outcome(self, job: JobRow) -> EndState | None:
        requested = self._job_table.requested(job.id)
        return None if requested is None else STATE_REQUESTED[requested]

    def _advise(self, job: JobRow, run: Run) -> None:
        try:
            self._job_table.events.add_log(job.id, run.advice())
        except Exception:  # the job runs without the advice
            log.warning("job %s: no advice on back-propagation can be given", job.id, exc_info=True)

    def _opened(self, job: JobRow) -> Generator[None, None, Run]:
        """Opens a job's run; its rows are tokenized in the background, because 100,000 of them take seconds."""
        assert self._base is not None
        profile, seed = resolve(job.spec["profile"]), job.spec["seed"]
        rows = in_background(lambda: self._rows(job, profile, seed))
        yield from waited_for(rows)
        train, validation, data = rows.result()
        self._job_table.get(job.id)  # raises if the job was deleted meanwhile, as a stopped one may be
        return Run(
            self._directory.job(job.id),
            self._base,
            profile,
            train,
            validation,
            seed=seed,
            snapshot_every=self._snapshot_every,
            data=data,
        )

    def _rows(self, job: JobRow, profile: Profile, seed: int) -> tuple[Dataset, Dataset | None, Data]:
        assert self._base is not None
        spec = job.spec
        task = None if spec["task"] is None else Task.parse(spec["task"], where="task")
        found = [self._datasets.get(spec[name]) if spec[name] else None for name in ("dataset", "validation")]
        train, validation = (None if row is None else self._directory.read(row, task) for row in found)
        assert train is not None
        tokenizer, context_length = deepcopy(self._base.tokenizer), self._base.context_length
        return rows_of_run(tokenizer, context_length, profile, train, validation, seed)

    def _write_adapter(self, job: JobRow) -> Iterator[None]:
        """Writes the adapter of a job that was paused or cancelled while it waited to resume."""
        try:
            run = yield from self._opened(job)
            try:
                self._job_table.set_result(job.id, stored_result(run.finish()))
            finally:
                run.close()
        except Exception:  # its journal stays, so the next start tries again
            log.warning("job %s: its adapter cannot be written", job.id, exc_info=True)
            with suppress(sqlite3.Error, OSError):
                self._cleanup.give_up(job)

    def _failed(self, job: JobRow, error: SteerzoError, cause: Exception | None = None) -> None:
        log.error("job %s failed: %s", job.id, error.code, exc_info=cause)
        try:
            self._settle(job, error)
        except sqlite3.Error as write_error:
            # The disk error that ended the step also prevents this write; `next_job` tries it again.
            log.error("job %s: its state cannot be written: %s", job.id, write_error)
            self._unwritten = (job, error)

    def _settle(self, job: JobRow, error: SteerzoError) -> None:
        """Writes the new state of a job that ended with an error: failed, or queued for another attempt."""
        try:
            job = self._job_table.get(job.id)
        except NotFoundError:
            return  # deleted just before it was started
        if job.state != "running":
            # It could not be started. Without a pause, a full disk would fill the log with attempts.
            self._pause_until = time.monotonic() + PAUSE_S
            return
        delay_s = self._retries.next_in_s(error, job.attempts)
        if delay_s is None:
            self._job_table.change_state(job.id, "failed", error=problem_of(error))
            self._metrics.job_ended(job.id, "failed", error.code)
            return
        again = self._job_table.try_again(job.id, problem_of(error), delay_s)
        self._job_table.events.add_log(job.id, f"{error}; attempt {again.attempts + 1} in {delay_s:g} s")
