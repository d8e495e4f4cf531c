"""What a server holds with the bundled base while it has nothing to do."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from steerzo_edge.model.load import default_device
from tests.server.process import ServerProcess

MIB = 1 << 20
IMPORTS = "import psutil, server.commands.serve; print(psutil.Process().memory_info().rss)"
# Measured: 77 before a prompt and 79 after one.
MOST_MIB = 150


@pytest.mark.long
@pytest.mark.skipif(default_device() != "cpu", reason="the base is on a card")
def test_an_idle_server(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTS], check=True, stdout=subprocess.PIPE, text=True)
    server = ServerProcess("bundled", tmp_path / "data")
    try:
        with server.start(is_forked=False) as client:
            ready = psutil.Process(server.pid).memory_info().rss
            client.post("/generate", {"prompt": "Once upon a time", "max_new_tokens": 4})
            answered = psutil.Process(server.pid).memory_info().rss
    finally:
        server.stop()
    sizes = [(size - int(done.stdout)) / MIB for size in (ready, answered)]
    assert max(sizes) <= MOST_MIB, sizes
