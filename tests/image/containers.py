"""Containers of the image under test, through the `docker` command."""

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from server.commands.client import Client

START_S = 180
STOP_S = 30


def docker(*words: str, timeout_s: float = 300) -> str:
    """Runs a docker command; returns what it wrote to both streams.

    Raises:
        AssertionError: If it fails.
    """
    found = subprocess.run(
        ["docker", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout_s
    )
    assert found.returncode == 0, found.stdout
    return found.stdout


def network() -> list[str]:
    """How a container's port is reached: engines without a bridge share the host's network."""
    bridge = subprocess.run(["docker", "network", "inspect", "bridge"], capture_output=True)
    return [] if bridge.returncode == 0 else ["--network=host"]


def ran(image: str, *command: str, options: tuple[str, ...] = ()) -> tuple[int, str]:
    """Exit code and output of a command in a container that is removed afterwards."""
    words = ["docker", "run", "--rm", *network(), *options, image, *command]
    found = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300)
    return found.returncode, found.stdout


class Container:
    """A server that runs from the image.

    Args:
        name: Of the container.
        port: On 127.0.0.1.
    """

    def __init__(self, name: str, port: int) -> None:
        self.name = name
        self.port = port

    @property
    def log(self) -> str:
        """All that it has logged, earlier starts included."""
        return docker("logs", self.name)

    @property
    def state(self) -> dict[str, Any]:
        """As `docker inspect` tells it."""
        found: dict[str, Any] = json.loads(docker("inspect", self.name))[0]["State"]
        return found

    def wait_until_healthy(self) -> None:
        """By the image's own health check."""
        deadline = time.monotonic() + START_S
        while self.state["Health"]["Status"] != "healthy":
            assert self.state["Running"], self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.5)

    def wait_until_ready(self, client: Client) -> None:
        """By its answer, which comes sooner than the next look at its health."""
        deadline = time.monotonic() + START_S
        while not client.ready():
            assert time.monotonic() < deadline, self.log
            time.sleep(0.2)

    def within(self, *command: str) -> str:
        """Output of a command in the running container."""
        return docker("exec", self.name, *command)


@contextmanager
def serving(image: str, name: str, *options: str) -> Iterator[Container]:
    """A container with a server, and an end to it.

    Args:
        image: What is run.
        name: Of the container.
        options: Further words for `docker run`.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    where = network()
    where += ["-e", f"STEERZO_PORT={port}"] if where else ["-p", f"127.0.0.1:{port}:8000"]
    docker("run", "--detach", "--name", name, *where, *options, image)
    try:
        yield Container(name, port)
    finally:
        docker("rm", "--force", "--volumes", name)
