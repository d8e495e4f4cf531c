"""How often, how much, how slowly: each limit with its status, and nothing beyond it."""

import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
import uvicorn
from starlette.testclient import TestClient

from server.access.body_limits import LEAST_BYTES_PER_S
from server.access.connection import MOST_HEAD_BYTES, Connection
from server.access.rate_limits import MOST_BUCKETS, RateLimits, neighbourhood
from server.commands.serve import uvicorn_config
from server.errors import NoRoomError, TooOftenError
from server.services.quota import Quota
from server.settings import Settings
from server.store.database import Database
from tests.server.access import KEY, app_in, client_of, context_of, keys_of

JSON = {"Content-Type": "application/json"}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_holds_a_burst_and_fills_at_its_rate() -> None:
    clock = Clock()
    rates = RateLimits(2.0, 5, now=clock)

    def taken() -> int:
        for count in range(100):
            with suppress(TooOftenError):
                rates.take("a")
                continue
            return count
        raise AssertionError("no end of it")

    assert taken() == 5
    with pytest.raises(TooOftenError) as refused:
        rates.take("a")
    assert refused.value.retry_after_s == 0.5
    rates.take("b")
    assert taken() == 0
    clock.now += 1.5
    assert taken() == 3
    clock.now += 1000
    assert taken() == 5


def test_buckets_are_forgotten_so_that_many_addresses_cost_no_memory() -> None:
    clock = Clock()
    rates = RateLimits(1e6, 2, now=clock)
    for index in range(MOST_BUCKETS + 100):
        clock.now += 1e-3
        rates.take(f"address {index}")
        rates.take("regular")
    assert len(rates._buckets) == MOST_BUCKETS
    assert "regular" in rates._buckets


def test_addresses_of_one_ipv6_network_share_a_bucket() -> None:
    assert neighbourhood("2001:db8:1:2::1") == neighbourhood("2001:db8:1:2:ffff::9")
    assert neighbourhood("2001:db8:1:2::1") != neighbourhood("2001:db8:1:3::1")
    assert neighbourhood("fe80::1%eth0") == neighbourhood("fe80::2")
    assert neighbourhood("10.0.0.1") != neighbourhood("10.0.0.2")
    assert neighbourhood(None) == neighbourhood("testclient") == "unknown"


def test_too_many_requests_are_told_when_to_come_back(tmp_path: Path) -> None:
    app = app_in(tmp_path, api_key=KEY, request_burst=3, requests_per_second=0.25)
    other = keys_of(app).create("other")
    with_key = client_of(app, KEY)
    assert [with_key.get("/profiles/cpu-demo").status_code for _ in range(4)] == [200, 200, 200, 429]
    refused = with_key.get("/jobs")
    assert refused.status_code == 429
    assert refused.json()["code"] == "too-often"
    assert refused.headers["retry-after"] == "4"
    # Each key has a bucket of its own; requests with a wrong key or none share that of their address.
    assert client_of(app, other).get("/jobs").status_code == 200
    assert [client_of(app, f"wrong {index}").get("/jobs").status_code for index in range(4)] == [401, 401, 401, 429]
    assert client_of(app, client=("10.0.0.9", 1)).get("/jobs").status_code == 401
    assert [with_key.get("/healthz").status_code for _ in range(9)] == [200] * 9


def test_the_default_limits_allow_ordinary_use() -> None:
    defaults = Settings()
    assert defaults.request_burst >= 1000
    assert defaults.requests_per_second >= 100


def test_uploads_beyond_the_limit_of_readers_wait(tmp_path: Path) -> None:
    app = app_in(tmp_path)
    context = context_of(app)
    job = context.job_table.add("job_0123456789abcdef", None, {"profile": {"steps": 1}})
    context.feeds.readers = context.settings.max_event_readers
    refused = client_of(app).get(f"/jobs/{job.id}/events")
    assert (refused.status_code, refused.json()["code"]) == (429, "busy")
    assert int(refused.headers["retry-after"]) >= 1


def test_stored_data_has_a_quota(tmp_path: Path) -> None:
    app = app_in(tmp_path, max_data_bytes=1 << 20)
    client = client_of(app)
    small = {"rows": [{"prompt": "a", "completion": "b"}]}
    # The base is not loaded here: whatever gets past the quota is told so.
    assert client.post("/datasets", json=small).status_code == 503
    (tmp_path / "data" / "datasets" / "large").write_bytes(b"x" * (1 << 20))
    context_of(app).quota._seen = None
    for path in ("/datasets", "/jobs", "/v1/files", "/v1/fine_tuning/jobs"):
        body = {"dataset": "x"} if path == "/jobs" else small
        refused = client.post(path, json=body)
        assert refused.status_code in (507, 400), refused.text  # 400: /v1 looks at the body first
    refused = client.post("/jobs", json={"dataset": "x"})
    assert refused.status_code == 507
    assert refused.json()["code"] == "no-room"
    assert "the quota is 1048576" in refused.json()["detail"]
    # What keeps nothing is answered as before.
    assert client.post("/generate", json={"prompt": "a"}).status_code == 503
    assert client.get("/jobs").status_code == 200
    assert client.post("/jobs/x/cancel").status_code == 404


def test_the_quota_counts_stored_and_announced_bytes(tmp_path: Path) -> None:
    database = Database(tmp_path / "steerzo.sqlite")
    clock = Clock()

    def room(**limits: int | None) -> Quota:
        whole: dict[str, Any] = {"most_bytes": None, "most_datasets": 2, "least_free_bytes": 0, **limits}
        return Quota(tmp_path, database, now=clock, **whole)

    held = room().held_bytes()
    assert held > 4096
    tight = room(most_bytes=held + 100)
    tight.check(100)
    with pytest.raises(NoRoomError, match="the request adds 101"):
        tight.check(101)
    (tmp_path / "more").write_bytes(b"x" * 50)
    tight.check(100)  # looked at a moment ago
    clock.now += 3
    with pytest.raises(NoRoomError):
        tight.check(100)
    with pytest.raises(NoRoomError, match="must stay free"):
        room(least_free_bytes=1 << 60).check(0)
    for index in range(2):
        room().check(0)
        with database.writing() as db:
            db.execute("INSERT INTO datasets VALUES (?, 'x', 'x', 0, '{}')", (f"ds_{index}",))
    with pytest.raises(NoRoomError, match="the limit is 2"):
        room().check(0)
    database.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """The app in our own uvicorn, on a socket, with short time limits."""
    app = app_in(tmp_path_factory.mktemp("slow"), body_timeout_s=0.5, max_body_bytes=200_000)

    class Hasty(Connection):
        head_s = 0.5

    config = uvicorn_config(app, context_of(app).settings)
    config.http, config.lifespan = Hasty, "off"
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield listener.getsockname()[:2]
        server.should_exit = True
        thread.join(10)


def answer_to(address: tuple[str, int], *pieces: bytes, every_s: float = 0.0) -> tuple[bytes, float]:
    """What comes back until the connection is closed, and after how many seconds that was."""
    began = time.monotonic()
    with socket.create_connection(address, timeout=10) as connection:
        received = b""
        try:
            for piece in pieces:
                # What is sent to a connection that was closed would take the answer away.
                if not select.select([connection], [], [], every_s)[0]:
                    connection.sendall(piece)
            while more := connection.recv(65536):
                received += more
        except ConnectionError:
            pass
        return received, time.monotonic() - began


HEAD = (
    b"POST /generate HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n"
)


def test_a_body_that_does_not_arrive_is_not_waited_for(address: tuple[str, int]) -> None:
    for pieces in ([HEAD], [HEAD, b"{"], [HEAD, *[b" "] * 12]):
        received, seconds = answer_to(address, *pieces, every_s=0.1)
        assert received.startswith(b"HTTP/1.1 408 "), received
        assert b'"code": "too-slow"' in received
        assert b"connection: close" in received.lower()
        assert 0.4 < seconds < 3


def test_a_slow_body_that_does_arrive_is_taken(address: tuple[str, int]) -> None:
    # A second for every 16 KiB: this one takes longer than the half second that an empty one may take.
    size = 4 * LEAST_BYTES_PER_S
    pieces = [b" " * (size // 8)] * 8

    def body() -> Iterator[bytes]:
        for piece in pieces:
            yield piece
            time.sleep(0.1)
        yield b'{"prompt": "a"}'

    response = httpx.post(f"http://127.0.0.1:{address[1]}/generate", content=body(), headers=JSON)
    assert response.status_code == 503  # read, understood, and no base is loaded


def test_a_head_that_does_not_arrive_is_not_waited_for(address: tuple[str, int]) -> None:
    for pieces in ([b""], [b"GET /jobs HTTP/1.1\r\n"], [b"GET / HTTP/1.1\r\n", *[b"X: y\r\n"] * 20]):
        received, seconds = answer_to(address, *pieces, every_s=0.1)
        assert received == b""
        assert 0.3 < seconds < 4


def test_a_second_head_is_not_waited_for_either(address: tuple[str, int]) -> None:
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        began = time.monotonic()
        connection.sendall(b"GET /he")
        with suppress(ConnectionError):
            while connection.recv(65536):
                pass
        assert 0.3 < time.monotonic() - began < 4


def test_a_head_that_is_too_large_is_refused(address: tuple[str, int]) -> None:
    for piece in (b"X-Long: " + b"x" * 2 * MOST_HEAD_BYTES, b"X: y\r\n" * MOST_HEAD_BYTES):
        received, _ = answer_to(address, b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n", piece)
        assert received == b"" or received.startswith((b"HTTP/1.1 400", b"HTTP/1.1 431"))


def test_after_all_that_the_server_answers(address: tuple[str, int]) -> None:
    assert httpx.get(f"http://127.0.0.1:{address[1]}/healthz").status_code == 200


@pytest.mark.parametrize("length", ["300000", "99999999999999999999999999", "-1", "1e3", "", "²"])
def test_invalid_and_too_large_content_lengths_are_refused(tmp_path: Path, length: str) -> None:
    client = client_of(app_in(tmp_path, max_body_bytes=200_000))
    headers = cast(Any, {**JSON, "Content-Length": length.encode()})
    response = client.post("/generate", content=b"{}", headers=headers)
    assert response.status_code == 413


@pytest.mark.parametrize("depth", [300, 5_000, 100_000])
@pytest.mark.parametrize(
    "path", ["/jobs", "/generate", "/datasets", "/v1/chat/completions", "/v1/fine_tuning/jobs"]
)
def test_deep_json_is_bad_input(deep: TestClient, path: str, depth: int) -> None:
    for nested in ("[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth):
        for field in ("dataset", "profile", "rows", "messages", "metadata"):
            response = deep.post(path, content=f'{{"{field}": {nested}}}', headers=JSON)
            assert 400 <= response.status_code < 500, response.text[:500]


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    return client_of(app_in(tmp_path_factory.mktemp("deep")))
