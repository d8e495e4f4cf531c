"""What routes share, handed to them by dependency injection."""

import math
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request
from transformers import PreTrainedTokenizerBase

from server.access.quota import Quota
from server.device.thread import Device
from server.jobs.feeds import Feeds
from server.jobs.notifier import EventNotifier
from server.jobs.runner import Runner
from server.lock import DirectoryLock
from server.metrics import Metrics
from server.problems import NotReadyError
from server.services.dataset_files import DatasetService
from server.services.inspection import Inspection
from server.services.inspection_cache import InspectionCache
from server.services.throttle import SubmitThrottle
from server.settings import Settings
from server.store.adapter_parts import Adapters
from server.store.adapters import AdapterRow
from server.store.database import Database
from server.store.datasets import DatasetTable
from server.store.directory import DataDirectory
from server.store.jobs import Store
from server.store.rows import JobRow
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
    library: DataDirectory
    register: DatasetTable
    holdings: DatasetService
    adapters: Adapters
    store: Store
    bell: EventNotifier
    feeds: Feeds
    runner: Runner
    device: Device
    database: Database
    lock: DirectoryLock
    room: Quota
    metrics: Metrics
    checks: InspectionCache[Inspection] = field(default_factory=InspectionCache)
    pace: SubmitThrottle = field(default_factory=SubmitThrottle)
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
