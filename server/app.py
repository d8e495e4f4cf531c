"""The FastAPI app of a server: routes, error handlers, access checks, startup and shutdown."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI

from server import problems
from server.access.authentication import Authentication
from server.access.body_limits import BodyLimits
from server.access.origins import OriginCheck
from server.access.rate_limits import RateLimits
from server.access.request_log import RequestLog
from server.dependencies import check_quota
from server.openai import routes as openai_routes
from server.routes import (
    adapters,
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
    sweeps,
    system,
)
from server.routes.openapi import describe
from server.routes.page_files import page_files
from server.services.build import build_context
from server.services.context import Context
from server.settings import Settings
from server.store.database import Database
from server.store.keys import Keys
from steerzo_edge import __version__

JOIN_S = 5.0
TRACKERS_S = 2.0
WEBHOOKS_S = 1.0
ROUTES = (
    *(datasets, example, estimate, jobs, sweeps, adapters, generate, profiles, openai_routes),
    *(health, monitoring, system, docs, page),
)


def create_app(settings: Settings, *, give_up: Callable[[Exception], None] = lambda error: None) -> FastAPI:
    """Builds the app; the base is loaded when the app starts.

    Args:
        settings: The server's settings.
        give_up: Called on the device's thread if the base cannot be loaded.

    Raises:
        ConflictError: If another server holds the data directory, or a newer one has written it.
    """
    context = build_context(settings, give_up)
    # A connection of its own: looking up a key must not wait for a transaction of the jobs' connection.
    keys_database = Database(context.directory.database)
    app = FastAPI(
        title="steerzo-edge",
        version=__version__,
        summary="Fine-tune a quantized language model with forward passes only, and serve it from the same base.",
        lifespan=lambda app: _running(context, keys_database),
        dependencies=[Depends(check_quota)],
        # FastAPI's documentation pages load scripts from other origins: see routes/docs.py.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.context = context
    problems.install(app)
    _install_routes(app)
    context.metrics.watch(monitoring.gauges(context))
    _install_access_checks(app, context, keys_database)
    return app


@asynccontextmanager
async def _running(context: Context, keys_database: Database) -> AsyncIterator[None]:
    """Starts the parts, and stops them when the app ends."""
    context.notifier.attach(asyncio.get_running_loop())
    context.dataset_service.sweep()
    context.adapters.files.sweep(context.adapters.table)
    context.device.start()
    context.webhooks.start()
    try:
        yield
    finally:
        context.close()
        await asyncio.to_thread(context.device.join, JOIN_S)
        await asyncio.to_thread(context.runner.trackers.close, TRACKERS_S)
        await asyncio.to_thread(context.webhooks.close, WEBHOOKS_S)
        keys_database.close()
        if not context.device.is_alive:
            context.database.close()
            context.lock.release()


def _install_routes(app: FastAPI) -> None:
    for module in ROUTES:
        app.include_router(module.router)
    describe(app)


def _install_access_checks(app: FastAPI, context: Context, keys_database: Database) -> None:
    """Wraps the app in the checks of `server.access`; the last one added sees a request first."""
    settings = context.settings
    key = None if settings.api_key is None else settings.api_key.get_secret_value()
    app.add_middleware(
        BodyLimits,
        uploads=settings.max_upload_bytes,
        others=settings.max_body_bytes,
        patience_s=settings.body_timeout_s,
    )
    app.add_middleware(
        Authentication,
        keys=Keys(keys_database, fixed=key),
        rates=RateLimits(settings.requests_per_second, settings.request_burst),
        is_public=settings.is_public,
        open_paths=page_files().keys(),
    )
    app.add_middleware(OriginCheck, host=settings.host, allowed=settings.allowed_hosts)
    app.add_middleware(RequestLog, metrics=context.metrics)
