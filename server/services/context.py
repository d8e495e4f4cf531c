"""The parts of a running server, as one object that services and routes receive."""

import math
from dataclasses import dataclass, field

from transformers import PreTrainedTokenizerBase

from server.device.thread import Device
from server.errors import NotReadyError
from server.jobs.event_feeds import EventFeeds
from server.jobs.notifier import EventNotifier
from server.jobs.runner import Runner
from server.jobs.webhooks import WebhookSender
from server.metrics import Metrics
from server.services.dataset_service import DatasetService
from server.services.inspection import Inspection
from server.services.inspection_cache import InspectionCache
from server.services.quota import Quota
from server.services.submit_throttle import SubmitThrottle
from server.settings import Settings
from server.store.adapter_store import AdapterStore
from server.store.database import Database
from server.store.datasets import DatasetTable
from server.store.directory import DataDirectory
from server.store.jobs import JobTable
from server.store.lock import DirectoryLock
from steerzo_edge.estimate import Survey


@dataclass(slots=True)
class Context:
    """The parts of a running server.

    Args:
        failure: The error that loading the base ended with; None if there was none.
        survey: The base's sizes and speed, once it is loaded; None if they could not be determined.
        own_tokenizer: A copy of the base's tokenizer for request threads. It is made once, when the base is loaded:
            copying takes long, and two threads might both do it.
        wrote_at: When the readiness check last wrote to the data directory, in monotonic seconds.
    """

    settings: Settings
    directory: DataDirectory
    database: Database
    lock: DirectoryLock
    dataset_table: DatasetTable
    dataset_service: DatasetService
    job_table: JobTable
    adapters: AdapterStore
    notifier: EventNotifier
    feeds: EventFeeds
    runner: Runner
    device: Device
    quota: Quota
    metrics: Metrics
    webhooks: WebhookSender
    inspection_cache: InspectionCache[Inspection] = field(default_factory=InspectionCache)
    submit_throttle: SubmitThrottle = field(default_factory=SubmitThrottle)
    failure: Exception | None = None
    survey: Survey | None = None
    wrote_at: float = -math.inf
    own_tokenizer: PreTrainedTokenizerBase | None = None

    def close(self) -> None:
        """Begins the shutdown: the device takes no more work and event streams end. Safe in a signal handler."""
        self.device.stop()
        self.notifier.close()

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """A tokenizer for request threads; the base's own tokenizer belongs to the device's thread.

        Raises:
            NotReadyError: If the base is still loading.
        """
        if self.own_tokenizer is None:
            raise NotReadyError("the base model is still loading")
        return self.own_tokenizer
