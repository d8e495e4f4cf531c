"""A reader at a shell: pastes a page's blocks one after the other, into one directory, at one server."""

import os
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from server.commands.client import Client
from tests.docs.blocks import ROOT, Block
from tests.server.process import ServerProcess

PORT = "127.0.0.1:8000"
START_S = 120
BLOCK_S = 300


class Reader:
    """Runs blocks; what one sets, the next one sees.

    Args:
        directory: Where files are made; also the reader's home.
        commands: A directory that comes first on PATH.
        port: Stands for 8000 in what is run.
        data_dir: Of a server that a page starts itself.
    """

    def __init__(self, directory: Path, commands: Path, port: int, data_dir: Path) -> None:
        self._directory = directory
        self._port = port
        self._state = directory / ".state"
        self._log = directory / ".server.log"
        self._server: subprocess.Popen[bytes] | None = None
        own = {name: value for name, value in os.environ.items() if not name.startswith(("STEERZO_", "HF_"))}
        self._environment = {
            **own,
            "HF_HUB_OFFLINE": "1",
            "HOME": str(directory),
            "OMP_WAIT_POLICY": "passive",
            "PATH": os.pathsep.join([str(commands), str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": str(ROOT),
            "STEERZO_DATA_DIR": str(data_dir),
            "STEERZO_PORT": str(port),
            "STEERZO_URL": f"http://127.0.0.1:{port}",
        }

    def run(self, block: Block) -> None:
        """Runs a block as its kind says; fails with all that it printed."""
        if block.kind == "sh server":
            self._serve(block)
            return
        text = block.text.replace(PORT, f"127.0.0.1:{self._port}")
        if block.kind == "python":
            command = [sys.executable, "-c", text]
        else:
            # Variables keep their values from block to block, as they do at a prompt.
            before, after = f"set -a; test ! -e {self._state} || . {self._state}", f"export -p > {self._state}"
            command = ["bash", "-euo", "pipefail", "-c", f"{before}\n{text}\n{after}"]
        done = subprocess.run(
            command,
            cwd=self._directory,
            env=self._environment,
            timeout=BLOCK_S,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        assert done.returncode == 0, f"{block} ended with {done.returncode}:\n{block.text}\n{done.stdout}"

    def _serve(self, block: Block) -> None:
        with self._log.open("ab") as log:
            # The installed command, and nothing before it: it is sent a signal in the end.
            own = str(Path(sys.executable).parent)
            self._server = subprocess.Popen(
                ["bash", "-c", f"exec {block.text}"],
                cwd=self._directory,
                env={**self._environment, "PATH": f"{own}{os.pathsep}{os.environ['PATH']}"},
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_S
        with Client(f"http://127.0.0.1:{self._port}") as client:
            while not client.ready():
                assert self._server.poll() is None, self._log.read_text()
                assert time.monotonic() < deadline, self._log.read_text()
                time.sleep(0.1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leaves nothing running."""
        if self._server is not None:
            self._server.terminate()
            assert self._server.wait(30) == 0, self._log.read_text()


def bundled_server(data_dir: Path) -> ServerProcess:
    """A server with the bundled base, for pages that say one is running."""
    return ServerProcess("bundled", data_dir)
