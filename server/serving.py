"""`steerzo serve`: settings, the key, uvicorn."""

import logging
import secrets
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import uvicorn
from pydantic import SecretStr

from server.app import create_app
from server.settings import Settings, from_environment
from steerzo_edge.errors import SteerzoError
from steerzo_edge.files import write_whole
from steerzo_edge.profile import load_profile

log = logging.getLogger(__name__)
GRACE_S = 5


def serve_command(environment: Mapping[str, str], *, profile: str | None, **options: Any) -> None:
    """Serves until it is told to stop.

    Args:
        environment: Where STEERZO_* variables are looked up.
        profile: A profile whose base model is taken, where no option names one.
        options: Command-line options; those that are None are left to the environment.

    Raises:
        SteerzoError: If the settings are wrong or the base cannot be loaded.
    """
    settings = from_environment(environment, **options)
    if profile is not None:
        model = load_profile(profile).model
        named = {"id": options.get("base"), "quantization": options.get("quantization")}
        model = model.model_copy(update={key: value for key, value in named.items() if value is not None})
        settings = settings.model_copy(update={"model": model})
    settings = with_key(settings)
    failures: list[Exception] = []

    def give_up(error: Exception) -> None:
        failures.append(error)
        server.should_exit = True

    # uvicorn shuts down in order, then raises the signal again: what it finds then should be an exit code of 0.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    app = create_app(settings, give_up=give_up)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            log_level="warning",
            timeout_graceful_shutdown=GRACE_S,
        )
    )
    log.info("serving on http://%s:%s, data in %s", settings.host, settings.port, settings.data_dir)
    server.run()
    if failures:
        raise failures[0] if isinstance(failures[0], SteerzoError) else SteerzoError(str(failures[0]))


def with_key(settings: Settings) -> Settings:
    """A public address is never open: without a key, one is made, kept, and shown once."""
    if not settings.is_public or settings.api_key is not None:
        return settings
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    path = settings.data_dir / "api-key"
    if not path.exists():
        key = secrets.token_urlsafe(24)
        write_whole(path, lambda temporary: _write_private(temporary, key))
        log.warning("%s can be reached by others; made an API key, kept in %s: %s", settings.host, path, key)
    return settings.model_copy(update={"api_key": SecretStr(path.read_text().strip())})


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text + "\n")
