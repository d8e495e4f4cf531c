"""Looks up the adapter that a request names.

    "latest"                 the running job, otherwise the newest job that has an adapter
    a job's id or name       while it runs, its adapter as of the last finished step; afterwards, its stored adapter
    an adapter's id or name  the stored adapter

Names are unique among jobs and adapters (`adapters.py`), so a name is never ambiguous.
"""

from dataclasses import dataclass
from difflib import get_close_matches

from server.store.adapters import AdapterRow, AdapterTable
from server.store.jobs import JobTable
from server.store.rows import JobRow
from steerzo_edge.errors import ConflictError, NotFoundError

LATEST = "latest"
SHOWN = 10


@dataclass(frozen=True, slots=True)
class NamedAdapter:
    """The job or adapter that a name refers to.

    Args:
        job: The job; None if the name is an adapter's own.
        adapter: The stored adapter; None if the job has none.
    """

    job: JobRow | None
    adapter: AdapterRow | None

    @property
    def id(self) -> str:
        """The job's id; the adapter's if the name refers to no job."""
        if self.job is not None:
            return self.job.id
        assert self.adapter is not None
        return self.adapter.id

    def stored(self) -> AdapterRow:
        """The adapter on the disk.

        Raises:
            ConflictError: If the job has made no adapter yet, or it was deleted.
        """
        if self.adapter is not None:
            return self.adapter
        assert self.job is not None
        if self.job.result is not None:
            raise ConflictError(
                f"the adapter of job {self.job.id} was deleted",
                hint="The same job with the same seed makes the same adapter again.",
            )
        raise ConflictError(
            f"job {self.job.id} is {self.job.state} and has no adapter yet", hint="Wait until it has started."
        )


class AdapterNames:
    """Looks up jobs and adapters by name.

    Args:
        job_table: The table of jobs.
        table: The table of adapters.
    """

    def __init__(self, job_table: JobTable, table: AdapterTable) -> None:
        self._job_table = job_table
        self._table = table

    def find(self, name: str) -> NamedAdapter:
        """The job or adapter with a name.

        Args:
            name: A job's or an adapter's id or name, or "latest".

        Raises:
            NotFoundError: If there is none; the message lists the adapters there are.
        """
        if name == LATEST:
            return self._latest()
        if name in self._table.reserved:
            raise NotFoundError(
                f"{name!r} is the base's own id, not an adapter's", hint="Leave the adapter out to ask the base."
            )
        try:
            job = self._job_table.get(name)
        except NotFoundError:
            adapter = self._table.find(name)
            if adapter is None:
                raise self._unknown(name) from None
            return NamedAdapter(None, adapter)
        return NamedAdapter(job, self._table.of_job(job.id))

    def _latest(self) -> NamedAdapter:
        for job in self._job_table.rows("running"):
            return NamedAdapter(job, self._table.of_job(job.id))
        made = {row.job: row for row in self._table.rows()}
        for job in reversed(self._job_table.rows()):
            if job.id in made:
                return NamedAdapter(job, made[job.id])
        raise NotFoundError("no job has an adapter yet", hint="POST /jobs first, or leave adapter out.")

    def _unknown(self, name: str) -> NotFoundError:
        names = [row.name for row in self._table.rows()]
        near = get_close_matches(name, names, n=SHOWN)
        names = [*near, *(other for other in names if other not in near)]
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        there = f"there are {', '.join(names[:SHOWN])}{more}" if names else "there is none yet"
        return NotFoundError(
            f"there is no adapter and no job {name!r}; {there}", hint="GET /adapters and GET /jobs list them."
        )
