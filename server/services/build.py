"""Builds the parts of a server from its settings."""

import logging
from collections.abc import Callable
from copy import deepcopy
from typing import NamedTuple

from server.device.prompts import PromptLimits
from server.device.thread import Device
from server.jobs.cleanup import JobCleanup, Retention
from server.jobs.event_feeds import EventFeeds
from server.jobs.notifier import EventNotifier
from server.jobs.retries import Retries
from server.jobs.runner import Runner
from server.jobs.webhooks import WebhookSender
from server.metrics import Metrics
from server.services.context import Context
from server.services.dataset_service import DatasetService
from server.services.quota import Quota
from server.settings import Settings
from server.store.adapter_store import AdapterStore
from server.store.database import Database
from server.store.datasets import DatasetTable
from server.store.directory import PACKED, DataDirectory
from server.store.jobs import JobTable
from server.store.lock import DirectoryLock
from server.store.webhooks import WebhookTable
from steerzo_edge.estimate import Survey, survey
from steerzo_edge.model.allocator import give_back
from steerzo_edge.model.base import Base
from steerzo_edge.model.load import load_base
from steerzo_edge.model.packed.cache import PackedCache
from steerzo_edge.model.weights.expanded_copies import COPIES

log = logging.getLogger(__name__)


class _Stored(NamedTuple):
    """The parts that keep data on the disk."""

    directory: DataDirectory
    database: Database
    dataset_table: DatasetTable
    job_table: JobTable
    adapters: AdapterStore
    webhook_table: WebhookTable


def build_context(settings: Settings, give_up: Callable[[Exception], None]) -> Context:
    """The parts of a server; the base is loaded when the device is started.

    Args:
        settings: The server's settings.
        give_up: Called on the device's thread if the base cannot be loaded.

    Raises:
        ConflictError: If another server holds the data directory, or a newer one has written it.
    """
    lock = DirectoryLock(settings.data_dir)
    metrics, notifier = Metrics(), EventNotifier()
    stored = _stored(settings, notifier)
    runner = _runner(settings, stored, metrics)

    def failed(error: Exception) -> None:
        context.failure = error
        give_up(error)

    def load() -> Base:
        base = _load(settings)
        context.survey = _survey(base)
        give_back()  # what measuring the speed has left in the heap
        context.own_tokenizer = deepcopy(base.tokenizer)
        return base

    context = Context(
        settings=settings,
        directory=stored.directory,
        database=stored.database,
        lock=lock,
        dataset_table=stored.dataset_table,
        dataset_service=DatasetService(stored.dataset_table, stored.directory),
        job_table=stored.job_table,
        adapters=stored.adapters,
        notifier=notifier,
        feeds=EventFeeds(stored.job_table, notifier, max_readers=settings.max_event_readers),
        runner=runner,
        device=_device(settings, load, runner, failed),
        quota=_quota(settings, stored.database),
        metrics=metrics,
        webhooks=_webhooks(settings, stored),
    )
    return context


def _stored(settings: Settings, notifier: EventNotifier) -> _Stored:
    directory = DataDirectory(settings.data_dir)
    database = Database(directory.database, reserved=frozenset({settings.model.id}))
    webhook_table = WebhookTable(database, settings.webhook)
    job_table = JobTable(database, changed=notifier.notify, ended=webhook_table.add)
    memory_bytes = settings.adapter_memory_mib << 20
    adapters = AdapterStore.of(database, directory, job_table, memory_bytes=memory_bytes)
    return _Stored(directory, database, DatasetTable(database), job_table, adapters, webhook_table)


def _runner(settings: Settings, stored: _Stored, metrics: Metrics) -> Runner:
    retention = Retention(settings.keep_jobs, settings.keep_days)
    cleanup = JobCleanup(stored.job_table, stored.directory, retention, forget=stored.adapters.cache.forget)
    return Runner(
        stored.job_table,
        stored.dataset_table,
        stored.directory,
        cleanup,
        stored.adapters,
        snapshot_every=settings.snapshot_every,
        retries=Retries(settings.retry_attempts, settings.retry_delay_s),
        metrics=metrics,
    )


def _device(
    settings: Settings, load: Callable[[], Base], runner: Runner, failed: Callable[[Exception], None]
) -> Device:
    limits = PromptLimits(
        waiting=settings.max_waiting_prompts,
        rows=settings.max_batch_rows,
        cache_bytes=settings.max_cache_bytes,
        prefill_tokens=settings.prefill_tokens,
        scored_tokens=settings.scored_tokens,
        timeout_s=settings.prompt_timeout_s,
    )
    return Device(load, runner, limits=limits, training_share=settings.training_share, failed=failed)


def _webhooks(settings: Settings, stored: _Stored) -> WebhookSender:
    secret = settings.webhook_secret
    return WebhookSender(
        stored.webhook_table, stored.job_table.events, None if secret is None else secret.get_secret_value()
    )


def _quota(settings: Settings, database: Database) -> Quota:
    return Quota(
        settings.data_dir,
        database,
        most_bytes=settings.max_data_bytes,
        most_datasets=settings.max_datasets,
        least_free_bytes=settings.least_free_bytes,
    )


def _load(settings: Settings) -> Base:
    model = settings.model
    COPIES.limit = settings.expanded_copy_bytes
    log.info("loading base %s (%s)", model.id, model.quantization)
    base = load_base(
        model.id,
        quantization=model.quantization,
        compute_dtype=model.dtype,
        revision=model.revision,
        cache=_packed_cache(settings),
        allow_control_tokens=settings.allow_control_tokens,
    )
    log.info("base %s is ready on %s", base.name, base.device)
    return base


def _packed_cache(settings: Settings) -> PackedCache | None:
    directory = settings.packed_dir or settings.data_dir / PACKED
    if settings.max_packed_bytes == 0:
        return None
    return PackedCache(directory, settings.max_packed_bytes, least_free_bytes=settings.least_free_bytes)


def _survey(base: Base) -> Survey | None:
    try:
        return survey(base)
    except Exception:  # the server works without estimates
        log.warning("base %s: its sizes and speed cannot be determined", base.name, exc_info=True)
        return None
