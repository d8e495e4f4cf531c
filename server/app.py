"""The app: its parts, put together, started and stopped."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

from fastapi import FastAPI
from starlette.types import ASGIApp

from server import problems
from server.context import Context
from server.data.holdings import Holdings
from server.data.library import Library
from server.data.register import Register
from server.database import Database
from server.jobs.bell import Bell
from server.jobs.device import Device
from server.jobs.faults import Retries
from server.jobs.feeds import Feeds
from server.jobs.runner import Runner
from server.jobs.shelf import Retention, Shelf
from server.jobs.store import Store
from server.limits import BodyLimit, KeyRequired
from server.routes import datasets, generate, health, jobs, profiles
from server.settings import Settings
from steerzo_edge import __version__
from steerzo_edge.model.base import Base
from steerzo_edge.model.load import load_base

log = logging.getLogger(__name__)
JOIN_S = 5.0


def create_app(settings: Settings, *, give_up: Callable[[Exception], None] = lambda error: None) -> FastAPI:
    """Builds the app; the base is loaded when it starts.

    Args:
        settings: How it is set up.
        give_up: Called from the device's thread if the base cannot be loaded.
    """
    library = Library(settings.data_dir)
    bell = Bell()
    database = Database(library.database)
    store = Store(database, changed=bell.ring)
    register = Register(database)
    holdings = Holdings(register, library)
    feeds = Feeds(store, bell, max_readers=settings.max_event_readers)
    shelf = Shelf(store, library, Retention(settings.keep_jobs, settings.keep_days))
    retries = Retries(settings.retry_attempts, settings.retry_delay_s)
    runner = Runner(store, register, library, shelf, snapshot_every=settings.snapshot_every, retries=retries)

    def failed(error: Exception) -> None:
        context.failure = error
        give_up(error)

    device = Device(partial(_load, settings), runner, max_waiting=settings.max_waiting_prompts, failed=failed)
    context = Context(settings, library, register, holdings, store, bell, feeds, runner, device)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        bell.attach(asyncio.get_running_loop())
        holdings.sweep()
        device.start()
        try:
            yield
        finally:
            context.close()
            await asyncio.to_thread(device.join, JOIN_S)
            if not device.is_alive:
                database.close()

    app = FastAPI(
        title="steerzo-edge",
        version=__version__,
        summary="Fine-tune a quantized language model with forward passes only, and serve it from the same base.",
        lifespan=lifespan,
    )
    app.state.context = context
    problems.install(app)
    for routes in (datasets, jobs, generate, profiles, health):
        app.include_router(routes.router)
    app.add_middleware(_body_limit, settings=settings)
    if settings.api_key is not None:
        app.add_middleware(KeyRequired, key=settings.api_key.get_secret_value())
    return app


def _body_limit(app: ASGIApp, settings: Settings) -> BodyLimit:
    return BodyLimit(app, uploads=settings.max_upload_bytes, others=settings.max_body_bytes)


def _load(settings: Settings) -> Base:
    model = settings.model
    log.info("loading base %s (%s)", model.id, model.quantization)
    base = load_base(model.id, quantization=model.quantization, compute_dtype=model.dtype, revision=model.revision)
    log.info("base %s is ready on %s", base.name, base.device)
    return base
