"""Runs jobs, one at a time, on the device's thread; every error ends up in the job, never in the thread.

    next_job    what could not be written before; then the first job of the queue, as an iterator of quanta
    a quantum   one step: its records are stored, then what was asked for meanwhile is done (pause, cancel)

A fault that may pass (memory, disk) puts the job back into the queue, to wait a little longer each time.
"""

import logging
import sqlite3
import time
from collections.abc import Generator, Iterator
from contextlib import suppress
from copy import deepcopy
from typing import Any

from server.device.background import beside, waited_for
from server.faults import Retries, known_error_of
from server.jobs.cleanup import JobCleanup
from server.metrics import Metrics
from server.problems import problem_of
from server.store.adapter_parts import Adapters
from server.store.datasets import DatasetTable
from server.store.directory import DataDirectory
from server.store.jobs import Store
from server.store.rows import JobRow
from server.store.states import GOAL, State
from steerzo_edge.data.examples import Dataset
from steerzo_edge.data.task import Task
from steerzo_edge.errors import NotFoundError, SteerzoError
from steerzo_edge.model.bank import Patches
from steerzo_edge.model.base import Base
from steerzo_edge.run import Result, Run
from steerzo_edge.run_data import Data, rows_of_run
from steerzo_edge.settings.profile import Profile, resolve

log = logging.getLogger(__name__)
REST_S = 1.0


class Runner:
    """Takes jobs from the queue and runs them in quanta of one step.

    Args:
        store: Where jobs are.
        register: Where datasets are.
        library: Where files are.
        shelf: Where finished jobs' files are looked after.
        adapters: Where adapters are found and loaded.
        snapshot_every: Steps between snapshots of a job.
        retries: How often, and how soon, a job tries again.
        metrics: Where steps and ends are counted.
    """

    def __init__(
        self,
        store: Store,
        register: DatasetTable,
        library: DataDirectory,
        shelf: JobCleanup,
        adapters: Adapters,
        *,
        snapshot_every: int,
        retries: Retries,
        metrics: Metrics | None = None,
    ) -> None:
        self._store = store
        self._register = register
        self._library = library
        self._shelf = shelf
        self._adapters = adapters
        self._snapshot_every = snapshot_every
        self._retries = retries
        self._metrics = metrics or Metrics()
        self._base: Base | None = None
        self._running: tuple[str, Run] | None = None
        self._unwritten: tuple[JobRow, SteerzoError] | None = None
        self._rest_until = 0.0

    def start(self, base: Base) -> None:
        """Takes the base; jobs that a crash left running go back to the queue, and leftovers are cleared away."""
        self._base = base
        for job in self._store.jobs("running"):
            self._store.change_state(job.id, "interrupted")
        for job in self._store.jobs("interrupted"):
            self._store.change_state(job.id, "queued")
        self._shelf.tidy()

    def next_job(self) -> Iterator[None] | None:
        """See `Training.next_job`."""
        if time.monotonic() < self._rest_until:
            return None
        try:
            if self._unwritten is not None:
                self._settle(*self._unwritten)
                self._unwritten = None
            job = self._store.next_job()
            if job is not None:
                return self._work(job)
            unkept = self._shelf.unkept()
        except (sqlite3.Error, OSError) as error:
            log.warning("the queue cannot be read or written: %s", error)
            return None
        return None if unkept is None else self._keep(unkept)

    def pause(self, job: JobRow) -> JobRow:
        """Has a job paused: at once if it waits, else after its present step. May be called from any thread.

        Raises:
            ConflictError: If its state does not allow it.
        """
        return self._store.ask(job.id, "pause")

    def resume(self, job: JobRow) -> JobRow:
        """Lets a paused or failed job go on where it was. May be called from any thread.

        Raises:
            ConflictError: If its state does not allow it.
        """
        return self._store.resume(job.id)

    def cancel(self, job: JobRow) -> JobRow:
        """Ends a job: at once if it waits, else after its present step. May be called from any thread.

        Raises:
            ConflictError: If it has ended already.
        """
        return self._store.ask(job.id, "cancel")

    def delete(self, job: JobRow) -> None:
        """Forgets a job, its events, journal and adapter. May be called from any thread.

        Raises:
            ConflictError: If it runs.
        """
        self._shelf.delete(job)

    def adapter(self, name: str) -> tuple[str, Patches]:
        """An adapter, on the device's thread.

        Args:
            name: A job's or an adapter's id or name, or "latest" for the job that ran last.

        Returns:
            The id of the job, or of the adapter where no job was named; and its patches: of a job as of the last
            finished step while it runs.

        Raises:
            NotFoundError: If there is nothing of that name.
            ConflictError: If the job has no adapter.
            AdapterFileError: If the adapter's file is not what was kept.
        """
        found = self._adapters.names.find(name)
        if found.job is not None and self._running is not None and self._running[0] == found.job.id:
            return found.id, self._running[1].patches()
        assert self._base is not None
        return found.id, self._adapters.cache.patches(found.kept(), self._base)

    def _work(self, job: JobRow) -> Iterator[None]:
        try:
            yield from self._steps(job)
        except SteerzoError as error:
            self._failed(job, error)
        except Exception as error:  # the job fails, the server goes on
            known = known_error_of(error)
            self._failed(job, known or SteerzoError(f"{type(error).__name__}: {error}"), cause=error)
        finally:
            self._running = None

    def _steps(self, job: JobRow) -> Iterator[None]:
        self._store.change_state(job.id, "running")
        run = yield from self._opened(job)
        try:
            self._running = (job.id, run)
            self._store.add_records(job.id, run.recorded)
            if run.progress.step:
                self._store.add_log(job.id, f"going on at step {run.progress.step}")
            else:
                self._advise(job, run)
            yield
            outcome = self._outcome(job)
            if outcome is None:
                outcome = yield from self._recorded(job, run)
            self._store.change_state(job.id, outcome, result=_result(run.finish()))
            self._metrics.job_ended(job.id, outcome)
        finally:
            run.close()
        self._shelf.put_away(job)

    def _recorded(self, job: JobRow, run: Run) -> Generator[None, None, State]:
        """Stores records until the run ends, or something else is asked for; returns how it ended."""
        tried_before = job.attempts > 0
        for record in run.records():
            self._store.add_records(job.id, [record])
            self._metrics.recorded(job.id, record)
            if tried_before:
                self._store.went_well(job.id)
                tried_before = False
            outcome = self._outcome(job)
            if outcome is not None:
                return outcome
            yield
        return "succeeded"

    def _outcome(self, job: JobRow) -> State | None:
        wish = self._store.wish(job.id)
        return None if wish is None else GOAL[wish]

    def _advise(self, job: JobRow, run: Run) -> None:
        try:
            self._store.add_log(job.id, run.advice())
        except Exception:  # an estimate that cannot be made is no reason to fail
            log.warning("job %s: no advice on back-propagation", job.id, exc_info=True)

    def _opened(self, job: JobRow) -> Generator[None, None, Run]:
        """Its rows are read and tokenized beside the device's thread: 100,000 of them take seconds."""
        assert self._base is not None
        profile, seed = resolve(job.spec["profile"]), job.spec["seed"]
        rows = beside(lambda: self._rows(job, profile, seed))
        yield from waited_for(rows)
        train, validation, data = rows.result()
        self._store.job(job.id)  # one that only waits for its adapter may have been deleted meanwhile
        return Run(
            self._library.job(job.id),
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
        found = [self._register.dataset(spec[name]) if spec[name] else None for name in ("dataset", "validation")]
        train, validation = (None if row is None else self._library.read(row, task) for row in found)
        assert train is not None
        tokenizer, context_length = deepcopy(self._base.tokenizer), self._base.context_length
        return rows_of_run(tokenizer, context_length, profile, train, validation, seed)

    def _keep(self, job: JobRow) -> Iterator[None]:
        """Makes the adapter of a job that was paused or cancelled while it waited to go on."""
        try:
            run = yield from self._opened(job)
            try:
                self._store.set_result(job.id, _result(run.finish()))
            finally:
                run.close()
        except Exception:  # its journal stays; it is tried again at the next start
            log.warning("job %s: its adapter cannot be made", job.id, exc_info=True)
            with suppress(sqlite3.Error, OSError):
                self._shelf.give_up(job)

    def _failed(self, job: JobRow, error: SteerzoError, cause: Exception | None = None) -> None:
        log.error("job %s failed: %s", job.id, error.code, exc_info=cause)
        try:
            self._settle(job, error)
        except sqlite3.Error as trouble:
            # The disk that broke the step does not take the news of it either: say it later.
            log.error("job %s: its state cannot be written: %s", job.id, trouble)
            self._unwritten = (job, error)

    def _settle(self, job: JobRow, error: SteerzoError) -> None:
        """Writes what has become of a job that broke off: it fails, or tries again later."""
        try:
            job = self._store.job(job.id)
        except NotFoundError:
            return  # deleted while its turn came up
        if job.state != "running":
            # It could not even be begun: not at once again, or a full disk would fill the log as well.
            self._rest_until = time.monotonic() + REST_S
            return
        delay_s = self._retries.next_in_s(error, job.attempts)
        if delay_s is None:
            self._store.change_state(job.id, "failed", error=problem_of(error))
            self._metrics.job_ended(job.id, "failed", error.code)
            return
        again = self._store.try_again(job.id, problem_of(error), delay_s)
        self._store.add_log(job.id, f"{error}; attempt {again.attempts + 1} in {delay_s:g} s")


def _result(result: Result) -> dict[str, Any]:
    return {
        "sha256": result.sha256,
        "step": result.step,
        "forwards": result.forwards,
        "before": None if result.before is None else result.before.as_dict(),
        "after": None if result.after is None else result.after.as_dict(),
    }
