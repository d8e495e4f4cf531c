"""What a request means by an adapter: the one place where names are looked up.

    "latest"              the job that runs, else the newest one that has an adapter
    a job's id or name    as of the last finished step while it runs, then what it has made
    an adapter's          as it is kept

Names are unique among jobs and adapters (`register.py`), so nothing is ever ambiguous.
"""

from dataclasses import dataclass
from difflib import get_close_matches

from server.store.adapters import AdapterRow, AdapterTable
from server.store.jobs import Store
from server.store.rows import JobRow
from steerzo_edge.errors import ConflictError, NotFoundError

LATEST = "latest"
SHOWN = 10


@dataclass(frozen=True, slots=True)
class Named:
    """What a name means.

    Args:
        job: Set if it is a job's id or name, or "latest".
        adapter: What is kept of it, if anything is.
    """

    job: JobRow | None
    adapter: AdapterRow | None

    @property
    def id(self) -> str:
        """Of the job, or of the adapter where no job was named."""
        if self.job is not None:
            return self.job.id
        assert self.adapter is not None
        return self.adapter.id

    def kept(self) -> AdapterRow:
        """What is on the disk.

        Raises:
            ConflictError: If the job has made nothing yet, or it was deleted.
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


class Names:
    """Looks names up.

    Args:
        store: Where jobs are.
        register: Where adapters are.
    """

    def __init__(self, store: Store, register: AdapterTable) -> None:
        self._store = store
        self._register = register

    def find(self, name: str) -> Named:
        """What a name means.

        Args:
            name: A job's or an adapter's id or name, or "latest".

        Raises:
            NotFoundError: If it means nothing; says what there is.
        """
        if name == LATEST:
            return self._latest()
        try:
            job = self._store.job(name)
        except NotFoundError:
            adapter = self._register.find(name)
            if adapter is None:
                raise self._unknown(name) from None
            return Named(None, adapter)
        return Named(job, self._register.of_job(job.id))

    def _latest(self) -> Named:
        for job in self._store.jobs("running"):
            return Named(job, self._register.of_job(job.id))
        made = {row.job: row for row in self._register.rows()}
        for job in reversed(self._store.jobs()):
            if job.id in made:
                return Named(job, made[job.id])
        raise NotFoundError("no job has an adapter yet", hint="POST /jobs first, or leave adapter out.")

    def _unknown(self, name: str) -> NotFoundError:
        names = [row.name for row in self._register.rows()]
        near = get_close_matches(name, names, n=SHOWN)
        names = [*near, *(other for other in names if other not in near)]
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        there = f"there are {', '.join(names[:SHOWN])}{more}" if names else "there is none yet"
        return NotFoundError(
            f"there is no adapter and no job {name!r}; {there}", hint="GET /adapters and GET /jobs list them."
        )
