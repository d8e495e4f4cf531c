"""A real server process for tests: started, killed, started again."""

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

from server.commands.client import Client
from tests.forked import Fork, forks, shared_environment

START_S = 90


class ServerProcess:
    """`steerzo serve` as a process on a loopback port of its own.

    Args:
        base: Directory of the base model, or "bundled".
        data_dir: The server's data directory.
        settings: Further STEERZO_* variables, without the prefix.
    """

    def __init__(self, base: str | Path, data_dir: Path, **settings: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.data_dir = data_dir
        self.key = settings.get("API_KEY")
        self.log = data_dir.parent / f"{data_dir.name}.log"
        self.environment = {
            **shared_environment(),
            "STEERZO_BASE": str(base),
            "STEERZO_DATA_DIR": str(data_dir),
            "STEERZO_PORT": str(self.port),
            **{f"STEERZO_{name}": value for name, value in settings.items()},
        }
        self._process: Fork | subprocess.Popen[bytes] | None = None
        self.client = Client(f"http://127.0.0.1:{self.port}", self.key)

    def start(self, *, wait: bool = True, is_forked: bool = True) -> Client:
        """Starts the process.

        Args:
            wait: Return when it is ready.
            is_forked: From a process that has imported everything, which saves four seconds; else from nothing.
        """
        self.log.touch()  # a test may read it before the process writes
        if is_forked:
            self._process = forks().server(self.environment, self.log)
        else:
            with self.log.open("ab") as log:
                command = [sys.executable, "-m", "server", "serve"]
                self._process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)
        deadline = time.monotonic() + START_S
        while wait and not self.client.ready():
            assert self._process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)
        return self.client

    @property
    def pid(self) -> int:
        """Of the process."""
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """SIGKILL: nothing is flushed, and the server cannot react."""
        self._signal(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        return self._signal(signal.SIGTERM)

    def wait(self, timeout_s: float) -> int:
        """The exit code of a process that ends by itself."""
        assert self._process is not None
        return self._process.wait(timeout_s)

    def _signal(self, number: int) -> int:
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(30)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        """Leaves nothing running and nothing open, whatever happened."""
        self.client.http.close()
        if self._process is not None and self._process.poll() is None:
            self.kill()


def finished(client: Client, job: str, timeout_s: float = 120) -> dict[str, Any]:
    """The job when it has ended."""
    deadline = time.monotonic() + timeout_s
    while True:
        found: dict[str, Any] = client.get(f"/jobs/{job}")
        if found["state"] in ("succeeded", "failed", "cancelled"):
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
