"""`steerzo serve`: reads the settings, checks the keys, binds the socket, runs uvicorn, and shuts down in order."""

import logging
import os
import socket
from collections.abc import Mapping
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI

from server import logs
from server.access.connection import MOST_HEAD_BYTES, Connection
from server.app import create_app
from server.services.context import Context
from server.settings import Settings, from_environment
from server.store.database import Database
from server.store.keys import Keys
from steerzo_edge.errors import InputError, SteerzoError

log = logging.getLogger(__name__)
GRACE_S = 3
FIRST_KEY = "first"


def serve_command(environment: Mapping[str, str], **options: Any) -> None:
    """Serves until a signal ends the process.

    Args:
        environment: The environment variables; STEERZO_* variables are settings.
        options: Command-line options; for those that are None, the environment decides.

    Raises:
        SteerzoError: If the settings are wrong, the port is taken, or the base cannot be loaded.
    """
    # Files written from here on are readable by their owner alone.
    os.umask(0o077)
    settings = from_environment(environment, **options)
    logs.configure(settings.log_format, settings.log_level, messages=settings.log_messages)
    failures: list[Exception] = []

    def give_up(error: Exception) -> None:
        failures.append(error)
        server.should_exit = True

    app = create_app(settings, give_up=give_up)
    context: Context = app.state.context
    check_keys(settings, context.database)
    listener = _listener(settings)
    server = _Server(context, uvicorn_config(app, settings))
    host, port = listener.getsockname()[:2]
    log.info("serving on http://%s:%s, data in %s", host, port, settings.data_dir)
    try:
        server.run(sockets=[listener])
    finally:
        if context.device.is_alive:
            # The base is still loading, or a long step is under way. The journal is complete, so nothing is lost by
            # exiting now; waiting could exceed the time after which container runtimes kill the process.
            logging.shutdown()
            os._exit(0)
    if failures:
        raise failures[0] if isinstance(failures[0], SteerzoError) else SteerzoError(str(failures[0]))


class _Server(uvicorn.Server):
    """uvicorn, which begins the parts' shutdown as soon as a signal arrives."""

    def __init__(self, context: Context, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._context = context

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._context.close()
        super().handle_exit(sig, frame)


def check_keys(settings: Settings, database: Database) -> None:
    """Refuses to serve a public address without a valid key, or makes the first key if the settings say so.

    Raises:
        InputError: If there is no valid key; the hint has the command that makes one.
    """
    keys = Keys(database, fixed=None if settings.api_key is None else settings.api_key.get_secret_value())
    if not settings.is_public or keys.any_is_valid:
        return
    if not settings.make_key or keys.are_required:
        raise InputError(
            f"{settings.host} can be reached from other machines, and there is no valid API key",
            hint=f"`steerzo keys create NAME --data-dir {settings.data_dir}` makes one; or set STEERZO_API_KEY.",
        )
    key = keys.create(FIRST_KEY)
    log.warning(
        "%s can be reached from other machines; made the API key %r, shown only now: %s",
        settings.host,
        FIRST_KEY,
        key,
    )


def uvicorn_config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    """uvicorn's configuration: no header that a client could forge is trusted, and request heads are limited.

    Args:
        app: The app to serve.
        settings: The server's settings.
    """
    return uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        h11_max_incomplete_event_size=MOST_HEAD_BYTES,
        limit_concurrency=settings.max_connections,
        timeout_graceful_shutdown=GRACE_S,
        # A client that could set X-Forwarded-For could choose the address that its requests are counted for.
        proxy_headers=False,
        server_header=False,
        access_log=False,
        log_config=None,
        log_level="warning",
    )


def _listener(settings: Settings) -> socket.socket:
    """The bound socket; bound early, so that a port in use is reported before the base is loaded."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # With the protocol given, asyncio disables Nagle's algorithm; otherwise answers would wait 40 ms for an ACK.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Every accepted connection inherits this option: the system closes a connection whose client takes no data.
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, settings.client_timeout_s * 1000)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise InputError(
            f"cannot bind {settings.host}:{settings.port}: {error.strerror or error}",
            hint="Choose another --port or --host.",
        ) from None
    return listener
