"""Killed with SIGKILL in the middle, started again: the same bytes. And how a server starts and stops."""

import random
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from server.commands.serve import _listener
from server.settings import Settings
from tests.server.conftest import PROFILE, TASK
from tests.server.process import START_S, ServerProcess, finished

# Other methods are killed in `test_chaos.py`, exact gradients among them.
METHOD = {
    "method": {"kind": "guiding-vector", "pool": 4, "history": "keep-best"},
    "rule": {"kind": "adam", "learning_rate": 0.01},
}


@pytest.mark.long
def test_a_killed_server_ends_with_the_same_adapter(tiny_path: Path, tmp_path: Path, rows_file: Path) -> None:
    settings: dict[str, Any] = {
        "overrides": {**METHOD, "steps": 80, "evaluate.every": 10, "method.epsilon": 0.01},
        "profile": PROFILE,
        "task": TASK,
    }

    with ServerProcess(tiny_path, tmp_path / "calm", SNAPSHOT_EVERY="7") as calm:
        client = calm.start()
        posted = client.post("/jobs", {"dataset": client.upload(rows_file)["id"], **settings})
        undisturbed = finished(client, posted["id"])
        assert undisturbed["state"] == "succeeded", undisturbed["error"]
        assert calm.stop() == 0

    with ServerProcess(tiny_path, tmp_path / "rough", SNAPSHOT_EVERY="7") as rough:
        _kill_and_compare(rough, rows_file, settings, undisturbed, random.Random(7))


def _kill_and_compare(
    rough: ServerProcess, rows_file: Path, settings: dict[str, Any], undisturbed: Any, dice: random.Random
) -> None:
    client = rough.start()
    posted = client.post("/jobs", {"dataset": client.upload(rows_file)["id"], **settings})
    # The job has as many steps again to go, however late the client sees that the target is reached.
    for target in sorted(dice.sample(range(3, 40), 3)):
        while client.get(f"/jobs/{posted['id']}")["step"] < target:
            time.sleep(0.005)
        rough.kill()
        client = rough.start()
    job: Any = finished(client, posted["id"])
    assert job["state"] == "succeeded", job["error"]
    assert job["adapter"] == undisturbed["adapter"]
    assert job["metrics"] == undisturbed["metrics"]

    events = list(client.events(posted["id"]))
    assert sorted(data["step"] for kind, data in events if kind == "step") == list(range(80))
    states = [data["state"] for kind, data in events if kind == "state"]
    assert states == ["queued", "running", *["interrupted", "queued", "running"] * 3, "succeeded"]
    losses = {data["step"]: data["loss"] for kind, data in events if kind == "step"}
    assert len(losses) == 80
    assert rough.stop() == 0


@pytest.mark.long
def test_a_job_survives_sigterm(tiny_path: Path, tmp_path: Path, rows_file: Path) -> None:
    with ServerProcess(tiny_path, tmp_path / "data") as server:
        client = server.start()
        posted = client.post(
            "/jobs",
            {
                "dataset": client.upload(rows_file)["id"],
                "profile": PROFILE,
                "task": TASK,
                "overrides": {"steps": 300},
            },
        )
        while client.get(f"/jobs/{posted['id']}")["step"] < 3:
            time.sleep(0.01)
        asked = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - asked < 10
        client = server.start()
        assert finished(client, posted["id"])["state"] == "succeeded"
        server.stop()


def test_a_base_that_does_not_exist_ends_the_server_with_a_reason(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "nothing", tmp_path / "data") as server:
        server.start(wait=False)
        assert server.wait(60) == 2
        log = server.log.read_text()
        assert "cannot be loaded" in log
        assert "hint:" in log
        assert "Traceback" not in log


def test_open_event_streams_do_not_delay_shutdown(tiny_path: Path, tmp_path: Path, rows_file: Path) -> None:
    with ServerProcess(tiny_path, tmp_path / "data") as server:
        client = server.start()
        body = {"dataset": client.upload(rows_file)["id"], "profile": PROFILE, "task": TASK}
        posted = client.post("/jobs", {**body, "overrides": {"steps": 100_000}})
        events: Any = client.events(posted["id"])
        while next(events)[0] != "step":
            pass
        assert server.stop() == 0
        assert "graceful shutdown exceeded" not in server.log.read_text()  # uvicorn's words when it has waited
        events.close()


def test_a_port_that_is_taken_is_said_before_the_base_is_loaded(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        with ServerProcess("bundled", tmp_path / "data", PORT=port) as server:
            server.start(wait=False)
            assert server.wait(60) == 2
            assert f"cannot bind 127.0.0.1:{port}" in server.log.read_text()
            assert "loading base" not in server.log.read_text()


# Before the server's handler is installed, a signal ends the process as it ends any: with -15.
MOMENTS = {"started": (None, (0, -15)), "loading": ("loading base", (0,)), "ready": ("is ready", (0,))}


@pytest.mark.parametrize(("line", "codes"), MOMENTS.values(), ids=MOMENTS)
def test_a_signal_at_any_moment_ends_the_server_in_order(
    tmp_path: Path, line: str | None, codes: tuple[int, ...]
) -> None:
    """Moments are lines of the log; the bundled base takes long enough to load for the signal to come meanwhile.

    Only the first process imports everything itself, so that the signal comes before its handler is there.
    """
    with ServerProcess("bundled", tmp_path / "data") as server:
        server.start(wait=False, is_forked=line is not None)
        deadline = time.monotonic() + START_S
        while line is not None and line not in server.log.read_text():
            assert time.monotonic() < deadline, server.log.read_text()
            time.sleep(0.01)
        assert server.stop() in codes


def test_settings_that_are_wrong_are_named(tmp_path: Path) -> None:
    from server.settings import from_environment
    from steerzo_edge.errors import InputError

    with pytest.raises(InputError, match="port"):
        from_environment({"STEERZO_PORT": "99999"})
    with pytest.raises(InputError, match="api_key"):
        from_environment({"STEERZO_API_KEY": "short"})
    assert from_environment({"STEERZO_API_KEY": ""}).api_key is None
    found = from_environment({"STEERZO_PROFILE": "gpu-8gb", "STEERZO_QUANTIZATION": "int8"})
    assert (found.model.id, found.model.quantization) == ("Qwen/Qwen3-1.7B", "int8")
    assert from_environment({"STEERZO_BASE": "a"}, base="b").model.id == "b"


def test_answers_do_not_wait_for_an_acknowledgement(tmp_path: Path) -> None:
    """asyncio switches Nagle's algorithm off only on sockets that name their protocol: 40 ms an answer."""
    with _listener(Settings(port=0, data_dir=tmp_path)) as listener:
        assert listener.proto == socket.IPPROTO_TCP


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="the system cannot")
def test_a_client_that_reads_nothing_is_disconnected(tmp_path: Path) -> None:
    """Any amount may wait for a reader that is slow; one that takes nothing at all loses its connection."""
    settings = Settings(port=0, data_dir=tmp_path, client_timeout_s=1)
    with _listener(settings) as listener, socket.socket() as stuck:
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.listen()
        stuck.connect(listener.getsockname())
        connection, _ = listener.accept()
        with connection:
            connection.setblocking(False)
            with pytest.raises(OSError, match=r"timed out|reset|Broken pipe"):
                _send_on(connection, 20)


def _send_on(connection: socket.socket, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            connection.send(bytes(1 << 16))
        except BlockingIOError:
            time.sleep(0.05)
