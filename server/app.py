"""The app: its parts, put together, started and stopped."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from copy import deepcopy

from fastapi import Depends, FastAPI

from server import problems
from server.access.authentication import Authentication
from server.access.bodies import Bodies
from server.access.keys import Keys
from server.access.observed import Observed
from server.access.origins import Origins
from server.access.quota import Quota
from server.access.rates import Rates
from server.device.prompts import Limits
from server.device.thread import Device
from server.faults import Retries
from server.jobs.cleanup import JobCleanup, Retention
from server.jobs.feeds import Feeds
from server.jobs.notifier import EventNotifier
from server.jobs.runner import Runner
from server.lock import DirectoryLock
from server.metrics import Metrics
from server.openai import routes as openai_routes
from server.openapi import describe
from server.routes import adapters as adapter_routes
from server.routes import (
    datasets,
    docs,
    estimate,
    example,
    generate,
    health,
    jobs,
    monitoring,
    page,
    profiles,
    system,
)
from server.routes.guards import room_for_more
from server.services.context import Context
from server.services.dataset_files import DatasetService
from server.settings import Settings
from server.static import page_files
from server.store.adapter_parts import Adapters
from server.store.database import Database
from server.store.datasets import DatasetTable
from server.store.directory import DataDirectory
from server.store.jobs import Store
from steerzo_edge import __version__
from steerzo_edge.estimate import Survey, survey
from steerzo_edge.model.base import Base
from steerzo_edge.model.load import load_base

log = logging.getLogger(__name__)
JOIN_S = 5.0
ROUTES = (
    *(datasets, example, estimate, jobs, adapter_routes, generate, profiles, openai_routes),
    *(health, monitoring, system, docs, page),
)


def create_app(settings: Settings, *, give_up: Callable[[Exception], None] = lambda error: None) -> FastAPI:
    """Builds the app; the base is loaded when it starts.

    Args:
        settings: How it is set up.
        give_up: Called from the device's thread if the base cannot be loaded.

    Raises:
        ConflictError: If another server has the data directory, or a newer one has written it.
    """
    metrics = Metrics()
    lock = DirectoryLock(settings.data_dir)
    library = DataDirectory(settings.data_dir)
    bell = EventNotifier()
    database = Database(library.database)
    store = Store(database, changed=bell.ring)
    register = DatasetTable(database)
    holdings = DatasetService(register, library)
    feeds = Feeds(store, bell, max_readers=settings.max_event_readers)
    adapters = Adapters.of(database, library, store, memory_bytes=settings.adapter_memory_mib << 20)
    retention = Retention(settings.keep_jobs, settings.keep_days)
    shelf = JobCleanup(store, library, retention, forget=adapters.cache.forget)
    retries = Retries(settings.retry_attempts, settings.retry_delay_s)
    runner = Runner(
        store,
        register,
        library,
        shelf,
        adapters,
        snapshot_every=settings.snapshot_every,
        retries=retries,
        metrics=metrics,
    )

    def failed(error: Exception) -> None:
        context.failure = error
        give_up(error)

    def load() -> Base:
        base = _load(settings)
        context.survey = _survey(base)
        context.own_tokenizer = deepcopy(base.tokenizer)
        return base

    device = Device(
        load,
        runner,
        limits=_limits(settings),
        training_share=settings.training_share,
        failed=failed,
    )
    context = Context(
        settings,
        library,
        register,
        holdings,
        adapters,
        store,
        bell,
        feeds,
        runner,
        device,
        database,
        lock,
        _room(settings, database),
        metrics,
    )
    # A connection of its own: whoever knocks waits for nobody who writes.
    doors = Database(library.database)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        bell.attach(asyncio.get_running_loop())
        holdings.sweep()
        adapters.files.sweep(adapters.register)
        device.start()
        try:
            yield
        finally:
            context.close()
            await asyncio.to_thread(device.join, JOIN_S)
            doors.close()
            if not device.is_alive:
                database.close()
                lock.release()

    app = FastAPI(
        title="steerzo-edge",
        version=__version__,
        summary="Fine-tune a quantized language model with forward passes only, and serve it from the same base.",
        lifespan=lifespan,
        dependencies=[Depends(room_for_more)],
        # The usual pages load scripts from elsewhere, and those would stand inside our origin: see routes/docs.py.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.context = context
    problems.install(app)
    for routes in ROUTES:
        app.include_router(routes.router)
    describe(app)
    metrics.watch(monitoring.gauges(context))
    _close(app, settings, doors, metrics)
    return app


def _close(app: FastAPI, settings: Settings, doors: Database, metrics: Metrics) -> None:
    """Wraps the app, the innermost first."""
    key = None if settings.api_key is None else settings.api_key.get_secret_value()
    app.add_middleware(
        Bodies,
        uploads=settings.max_upload_bytes,
        others=settings.max_body_bytes,
        patience_s=settings.body_timeout_s,
    )
    app.add_middleware(
        Authentication,
        keys=Keys(doors, fixed=key),
        rates=Rates(settings.requests_per_second, settings.request_burst),
        is_public=settings.is_public,
        open_paths=page_files().keys(),
    )
    app.add_middleware(Origins, host=settings.host, allowed=settings.allowed_hosts)
    app.add_middleware(Observed, metrics=metrics)


def _limits(settings: Settings) -> Limits:
    return Limits(
        waiting=settings.max_waiting_prompts,
        rows=settings.max_batch_rows,
        cache_bytes=settings.max_cache_bytes,
        prefill_tokens=settings.prefill_tokens,
        timeout_s=settings.prompt_timeout_s,
    )


def _room(settings: Settings, database: Database) -> Quota:
    return Quota(
        settings.data_dir,
        database,
        most_bytes=settings.max_data_bytes,
        most_datasets=settings.max_datasets,
        least_free_bytes=settings.least_free_bytes,
    )


def _load(settings: Settings) -> Base:
    model = settings.model
    log.info("loading base %s (%s)", model.id, model.quantization)
    base = load_base(model.id, quantization=model.quantization, compute_dtype=model.dtype, revision=model.revision)
    log.info("base %s is ready on %s", base.name, base.device)
    return base


def _survey(base: Base) -> Survey | None:
    try:
        return survey(base)
    except Exception:  # an estimate that cannot be made is no reason not to serve
        log.warning("base %s: its sizes and speed cannot be found", base.name, exc_info=True)
        return None
