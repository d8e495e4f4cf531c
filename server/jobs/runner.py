"""Runs jobs, one at a time, on the device's thread; every error ends up in the job, never in the thread."""

import logging
from collections.abc import Iterator
from typing import Any

from server.data.library import Library
from server.data.register import Register
from server.jobs.states import State
from server.jobs.store import JobRow, Store
from server.problems import problem_of
from steerzo_edge.data.task import Task
from steerzo_edge.errors import ConflictError, NotFoundError, SteerzoError
from steerzo_edge.model.adapter_file import load_adapter
from steerzo_edge.model.bank import Patches
from steerzo_edge.model.base import Base
from steerzo_edge.profile import resolve
from steerzo_edge.run import Result, Run

log = logging.getLogger(__name__)
LATEST = "latest"


class Runner:
    """Takes jobs from the queue and runs them in quanta of one step.

    Args:
        store: Where jobs are.
        register: Where datasets are.
        library: Where files are.
        snapshot_every: Steps between snapshots of a job.
    """

    def __init__(self, store: Store, register: Register, library: Library, *, snapshot_every: int) -> None:
        self._store = store
        self._register = register
        self._library = library
        self._snapshot_every = snapshot_every
        self._base: Base | None = None
        self._running: tuple[str, Run] | None = None
        self._cancel: set[str] = set()
        self._loaded: dict[str, Patches] = {}

    def start(self, base: Base) -> None:
        """Takes the base; jobs that a crash left running go back to the queue."""
        self._base = base
        for job in self._store.jobs("running"):
            self._store.change_state(job.id, "interrupted")
        for job in self._store.jobs("interrupted"):
            self._store.change_state(job.id, "queued")

    def next_job(self) -> Iterator[None] | None:
        """See `Training.next_job`."""
        waiting = self._store.jobs("queued")
        return self._work(waiting[0]) if waiting else None

    def cancel(self, job: JobRow) -> None:
        """Ends a job: at once if it waits, else after its present step. May be called from any thread.

        Raises:
            ConflictError: If it has ended already.
        """
        if job.state == "running":
            self._cancel.add(job.id)
            return
        self._store.change_state(job.id, "cancelled")

    def adapter(self, name: str) -> tuple[str, Patches]:
        """The adapter of a job, on the device's thread.

        Args:
            name: A job's id or name, or "latest" for the one that ran last.

        Returns:
            The job's id, and its patches: as of the last finished step while it runs.

        Raises:
            NotFoundError: If there is no such job.
            ConflictError: If it has no adapter.
        """
        job = self._store.job(name) if name != LATEST else self._latest()
        if self._running is not None and self._running[0] == job.id:
            return job.id, self._running[1].patches()
        if job.result is None:
            raise ConflictError(
                f"job {job.id} is {job.state} and has no adapter", hint="Wait until it has started."
            )
        if job.id not in self._loaded:
            assert self._base is not None
            self._loaded[job.id] = load_adapter(self._library.job(job.id) / "adapter", self._base)
        return job.id, self._loaded[job.id]

    def _latest(self) -> JobRow:
        if self._running is not None:
            return self._store.job(self._running[0])
        finished = [job for job in self._store.jobs() if job.result is not None]
        if not finished:
            raise NotFoundError("no job has an adapter yet", hint="POST /jobs first, or leave adapter out.")
        return finished[-1]

    def _work(self, job: JobRow) -> Iterator[None]:
        try:
            yield from self._steps(job)
        except SteerzoError as error:
            self._fail(job, error)
        except Exception as error:  # the job fails, the server goes on
            self._fail(job, SteerzoError(f"{type(error).__name__}: {error}"), cause=error)
        finally:
            self._running = None
            self._cancel.discard(job.id)

    def _steps(self, job: JobRow) -> Iterator[None]:
        self._store.change_state(job.id, "running")
        run = self._open(job)
        try:
            self._running = (job.id, run)
            self._store.add_records(job.id, run.recorded)
            if run.progress.step:
                self._store.add_log(job.id, f"going on at step {run.progress.step}")
            else:
                self._advise(job, run)
            yield
            outcome: State = "succeeded"
            for record in run.records():
                self._store.add_records(job.id, [record])
                if job.id in self._cancel:
                    outcome = "cancelled"
                    break
                yield
            self._store.change_state(job.id, outcome, result=_result(run.finish()))
        finally:
            run.close()

    def _advise(self, job: JobRow, run: Run) -> None:
        try:
            self._store.add_log(job.id, run.advice())
        except Exception:  # an estimate that cannot be made is no reason to fail
            log.warning("job %s: no advice on back-propagation", job.id, exc_info=True)

    def _open(self, job: JobRow) -> Run:
        assert self._base is not None
        spec = job.spec
        task = None if spec["task"] is None else Task.parse(spec["task"], where="task")
        rows = [self._register.dataset(spec[name]) if spec[name] else None for name in ("dataset", "validation")]
        train, validation = (None if row is None else self._library.read(row, task) for row in rows)
        assert train is not None
        return Run(
            self._library.job(job.id),
            self._base,
            resolve(spec["profile"]),
            train,
            validation,
            seed=spec["seed"],
            snapshot_every=self._snapshot_every,
        )

    def _fail(self, job: JobRow, error: SteerzoError, cause: Exception | None = None) -> None:
        log.error("job %s failed: %s", job.id, error, exc_info=cause)
        self._store.change_state(job.id, "failed", error=problem_of(error))


def _result(result: Result) -> dict[str, Any]:
    return {
        "sha256": result.sha256,
        "step": result.step,
        "forwards": result.forwards,
        "before": None if result.before is None else result.before.as_dict(),
        "after": None if result.after is None else result.after.as_dict(),
    }
