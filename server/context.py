"""What routes share, handed to them by dependency injection."""

import math
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request
from transformers import PreTrainedTokenizerBase

from server.access.room import Room
from server.adapters.parts import Adapters
from server.adapters.register import AdapterRow
from server.checks import Checks
from server.data.holdings import Holdings
from server.data.library import Library
from server.data.register import Register
from server.database import Database
from server.inspection import Inspection
from server.jobs.bell import Bell
from server.jobs.device import Device
from server.jobs.feeds import Feeds
from server.jobs.rows import JobRow
from server.jobs.runner import Runner
from server.jobs.store import Store
from server.lock import DirectoryLock
from server.metrics import Metrics
from server.pace import Pace
from server.problems import NotReadyError
from server.settings import Settings
from steerzo_edge.estimate import Survey


@dataclass(slots=True)
class Context:
    """The parts of a running server.

    Args:
        failure: Why the base could not be loaded, once that is known.
        survey: The base's sizes and speed, once it is loaded; None if they could not be found.
        own_tokenizer: A copy of the base's, once it is loaded; made there, for copying takes long and two threads
            might both do it.
        wrote_at: When the data directory last took a write that was made to see whether it does; monotonic seconds.
    """

    settings: Settings
    library: Library
    register: Register
    holdings: Holdings
    adapters: Adapters
    store: Store
    bell: Bell
    feeds: Feeds
    runner: Runner
    device: Device
    database: Database
    lock: DirectoryLock
    room: Room
    metrics: Metrics
    checks: Checks[Inspection] = field(default_factory=Checks)
    pace: Pace = field(default_factory=Pace)
    failure: Exception | None = None
    survey: Survey | None = None
    wrote_at: float = -math.inf
    own_tokenizer: PreTrainedTokenizerBase | None = None

    def close(self) -> None:
        """Begins the end: no more work is taken up, streams of events run out. Safe in a signal handler."""
        self.device.stop()
        self.bell.close()

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """A tokenizer for the web's threads; the base's own belongs to the device's thread.

        Raises:
            NotReadyError: If the base is still loading.
        """
        if self.own_tokenizer is None:
            raise NotReadyError("the base model is still loading")
        return self.own_tokenizer


def _context(request: Request) -> Context:
    return request.app.state.context  # type: ignore[no-any-return]


Server = Annotated[Context, Depends(_context)]


def _job(job_id: str, server: Server) -> JobRow:
    return server.store.job(job_id)


Job = Annotated[JobRow, Depends(_job)]


def _adapter(adapter_id: str, server: Server) -> AdapterRow:
    return server.adapters.names.find(adapter_id).kept()


Adapter = Annotated[AdapterRow, Depends(_adapter)]
