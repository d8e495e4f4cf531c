"""Server processes that are started within a second and killed at any moment.

They are forked from a process that has imported everything.
"""

import errno
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import torch

from server.commands.client import Client
from server.commands.serve import serve_command

START_S = 120.0
Sabotage = Callable[[], None]


class SeededRandom:
    """Random numbers from a seed."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def number(self, below: float = 1.0) -> float:
        """Uniform in [0, below)."""
        return float(torch.rand(1, generator=self._generator)) * below

    def choice(self, of: int) -> int:
        """A whole number below `of`."""
        return int(torch.randint(of, (1,), generator=self._generator))


class Life:
    """One server process on a data directory.

    Args:
        data_dir: The server's.
        port: Where it listens.
        log: The file of its log.
        settings: Of the server, by name.
        sabotage: Called first in the new process; it makes a later call fail there.
    """

    def __init__(
        self, data_dir: Path, port: int, log: Path, settings: dict[str, Any], sabotage: Sabotage | None = None
    ) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.pid = os.fork()
        if self.pid == 0:
            _serve(log, {"port": port, "data_dir": data_dir, **settings}, sabotage)
        self.began = time.monotonic()
        self._status: int | None = None

    @property
    def is_over(self) -> bool:
        """Whether the process has ended."""
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._status = status if pid else None
        return self._status is not None

    def ready(self, client: Client, timeout_s: float = START_S) -> bool:
        """Waits until it is ready; False if it ends before."""
        deadline = time.monotonic() + timeout_s
        while not client.ready():
            if self.is_over:
                return False
            if time.monotonic() > deadline:
                raise TimeoutError(f"the server on {self.url} is not ready after {timeout_s:g} s")
            time.sleep(0.01)
        return True

    def kill_in(self, seconds: float) -> None:
        """Starts a process that sends SIGKILL after some seconds, whatever this process does meanwhile."""
        child = os.fork()
        if child == 0:
            if os.fork() == 0:  # a grandchild, which init waits for
                time.sleep(seconds)
                try:
                    os.kill(self.pid, signal.SIGKILL)
                finally:
                    os._exit(0)
            os._exit(0)
        os.waitpid(
            child, 0
        )  # this one alone: the server may have ended meanwhile, and its status is asked for later

    def end(self, number: int = signal.SIGTERM, timeout_s: float = 60.0) -> int:
        """Sends a signal and waits; the exit code, negative for a signal's."""
        if not self.is_over:
            os.kill(self.pid, number)
        return self.wait(timeout_s)

    def wait(self, timeout_s: float = 60.0) -> int:
        """Waits for the end; the exit code, negative for a signal's."""
        deadline = time.monotonic() + timeout_s
        while not self.is_over:
            if time.monotonic() > deadline:
                raise TimeoutError(f"process {self.pid} does not end")
            time.sleep(0.002)
        assert self._status is not None
        return os.waitstatus_to_exitcode(self._status)


def free_port() -> int:
    """A loopback port that no process listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def failing_fsync(seed: int, share: float, after_s: float = 2.0) -> Sabotage:
    """Makes fsync raise EIO in some of its calls, as on a disk that fails.

    Args:
        seed: Of which calls fail.
        share: Of all calls.
        after_s: No call fails in these first seconds, while the server starts.
    """

    def sabotage() -> None:
        random, real, born = SeededRandom(seed), os.fsync, time.monotonic()

        def fsync(handle: Any) -> None:
            if time.monotonic() - born > after_s and random.number() < share:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            real(handle)

        os.fsync = fsync  # type: ignore[assignment]

    return sabotage


def answer_or_none(client: Client, call: Callable[[Client], Any]) -> Any | None:
    """An answer, or None if the connection broke because the server ended."""
    try:
        return call(client)
    except httpx.TransportError:
        return None


def _serve(log: Path, settings: dict[str, Any], sabotage: Sabotage | None) -> None:
    """Serves in the child process; never returns."""
    code = 1
    try:
        import logging

        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        # As `steerzo serve` does: uvicorn ends in order and then raises the signal again.
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
        # The thread that owns the model starts fresh in this process; one is enough for a small one.
        torch.set_num_threads(1)
        if sabotage is not None:
            sabotage()
        serve_command({}, **settings)
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)
