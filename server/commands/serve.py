"""`steerzo serve`: settings, the keys, the socket, uvicorn, and an orderly end."""

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
    """Serves until it is told to stop.

    Args:
        environment: Where STEERZO_* variables are looked up.
        options: Command-line options; those that are None are left to the environment.

    Raises:
        SteerzoError: If the settings are wrong, the port is taken, or the base cannot be loaded.
    """
    # Everything that is written from here on is for the owner's eyes.
    os.umask(0o077)
    settings = from_environment(environment, **options)
    logs.configure(settings.log_format, settings.log_level, messages=settings.log_messages)
    failures: list[Exception] = []

    def give_up(error: Exception) -> None:
        failures.append(error)
        server.should_exit = True

    app = create_app(settings, give_up=give_up)
    context: Context = app.state.context
    admit(settings, context.database)
    listener = _listener(settings)
    server = _Server(context, uvicorn_config(app, settings))
    host, port = listener.getsockname()[:2]
    log.info("serving on http://%s:%s, data in %s", host, port, settings.data_dir)
    try:
        server.run(sockets=[listener])
    finally:
        if context.device.is_alive:
            # A load or a long step is still under way. The journal is whole, so nothing is lost by leaving now;
            # waiting would outlast the patience of those who sent the signal.
            logging.shutdown()
            os._exit(0)
    if failures:
        raise failures[0] if isinstance(failures[0], SteerzoError) else SteerzoError(str(failures[0]))


class _Server(uvicorn.Server):
    """uvicorn, telling the parts at once that the end has begun."""

    def __init__(self, context: Context, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._context = context

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._context.close()
        super().handle_exit(sig, frame)


def admit(settings: Settings, database: Database) -> None:
    """Refuses to serve a public address that nobody could have the key for, or makes the first key if told to.

    Raises:
        InputError: With the command that makes a key.
    """
    keys = Keys(database, fixed=None if settings.api_key is None else settings.api_key.get_secret_value())
    if not settings.is_public or keys.any_is_valid:
        return
    if not settings.make_key or keys.are_required:
        raise InputError(
            f"{settings.host} can be reached by others, and there is no valid API key",
            hint=f"`steerzo keys create NAME --data-dir {settings.data_dir}` makes one; or set STEERZO_API_KEY.",
        )
    key = keys.create(FIRST_KEY)
    log.warning(
        "%s can be reached by others; made the API key %r, shown this once: %s", settings.host, FIRST_KEY, key
    )


def uvicorn_config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    """How uvicorn is set up: nothing is believed that a client could make up, and heads have limits.

    Args:
        app: What is served.
        settings: Of the server.
    """
    return uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        h11_max_incomplete_event_size=MOST_HEAD_BYTES,
        limit_concurrency=settings.max_connections,
        timeout_graceful_shutdown=GRACE_S,
        # Whoever may say X-Forwarded-For may choose whose requests are counted.
        proxy_headers=False,
        server_header=False,
        access_log=False,
        log_config=None,
        log_level="warning",
    )


def _listener(settings: Settings) -> socket.socket:
    """The bound socket: a port that is taken is found before the base is loaded."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # The protocol is named, for asyncio switches Nagle off only where it is: answers would wait 40 ms for an ACK.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Inherited by every connection: the system closes those that take nothing of what waits for them.
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
