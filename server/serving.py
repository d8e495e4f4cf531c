"""`steerzo serve`: settings, the key, the socket, uvicorn, and an orderly end."""

import logging
import os
import secrets
import socket
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from pydantic import SecretStr

from server.app import create_app
from server.context import Context
from server.settings import Settings, from_environment
from steerzo_edge.errors import InputError, SteerzoError
from steerzo_edge.files import write_whole

log = logging.getLogger(__name__)
GRACE_S = 3


def serve_command(environment: Mapping[str, str], **options: Any) -> None:
    """Serves until it is told to stop.

    Args:
        environment: Where STEERZO_* variables are looked up.
        options: Command-line options; those that are None are left to the environment.

    Raises:
        SteerzoError: If the settings are wrong, the port is taken, or the base cannot be loaded.
    """
    settings = with_key(from_environment(environment, **options))
    listener = _listener(settings)
    failures: list[Exception] = []

    def give_up(error: Exception) -> None:
        failures.append(error)
        server.should_exit = True

    app = create_app(settings, give_up=give_up)
    context: Context = app.state.context
    server = _Server(context, uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=GRACE_S))
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


def with_key(settings: Settings) -> Settings:
    """A public address is never open: without a key, one is made, kept, and shown once."""
    if not settings.is_public or settings.api_key is not None:
        return settings
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    path = settings.data_dir / "api-key"
    if not path.exists() or not path.read_text().strip():
        key = secrets.token_urlsafe(24)
        write_whole(path, lambda temporary: _write_private(temporary, key))
        log.warning("%s can be reached by others; made an API key, kept in %s: %s", settings.host, path, key)
    return settings.model_copy(update={"api_key": SecretStr(path.read_text().strip())})


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


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text + "\n")
