"""A real server process for tests: started, killed, started again."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

import psutil

from server.commands.client import Client

START_S = 90


class ServerProcess:
    """`steerzo serve` as a child process on a loopback port of its own.

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
            **{name: value for name, value in os.environ.items() if not name.startswith("STEERZO_")},
            "HF_HUB_OFFLINE": "1",
            # Tests share the machine: threads that wait must not spin.
            "OMP_WAIT_POLICY": "passive",
            "STEERZO_BASE": str(base),
            "STEERZO_DATA_DIR": str(data_dir),
            "STEERZO_PORT": str(self.port),
            **{f"STEERZO_{name}": value for name, value in settings.items()},
        }
        self._process: subprocess.Popen[bytes] | None = None
        self.client = Client(f"http://127.0.0.1:{self.port}", self.key)

    def start(self, *, wait: bool = True) -> Client:
        """Starts the process; with `wait`, returns when it is ready."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "server", "serve"], env=self.environment, stdout=log, stderr=log
            )
        deadline = time.monotonic() + START_S
        while wait and not self.client.ready():
            assert self._process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)
        return self.client

    @property
    def pid(self) -> int:
        """Of the process."""
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """SIGKILL: nothing is flushed, nobody is told."""
        self._signal(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        return self._signal(signal.SIGTERM)

    def cpu_s(self) -> float:
        """Seconds of processor time spent so far, by all its threads."""
        assert self._process is not None
        times = psutil.Process(self._process.pid).cpu_times()
        return float(times.user + times.system)

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


def finished(client: Client, job: str, timeout_s: float = 120) -> dict[str, object]:
    """The job when it has ended."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = client.get(f"/jobs/{job}")
        if found["state"] in ("succeeded", "failed", "cancelled"):
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
