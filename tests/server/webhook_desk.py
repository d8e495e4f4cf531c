"""A receiver of webhooks, and the tables of a server with their sender."""

import base64
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from server.jobs.webhooks import WebhookSender
from server.store.database import Database
from server.store.jobs import JobTable
from server.store.webhooks import WebhookTable

SECRET = "whsec_" + base64.b64encode(b"a secret of the operator").decode()


class Receiver:
    """An HTTP server that notes what it is sent; answers with the first of `statuses`, at last with 204."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.received: list[tuple[str, dict[str, str], bytes]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.received.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                status = receiver.statuses.pop(0) if receiver.statuses else 204
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("location", "/elsewhere")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *values: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook/secret-path"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.server.shutdown()
    made.server.server_close()


class Desk:
    """The tables of a server, with a sender that tries again at once."""

    def __init__(self, path: Path, url: str | None, *, secret: str | None = SECRET, timeout_s: float = 5) -> None:
        self.database = Database(path)
        self.table = WebhookTable(self.database, url)
        self.jobs = JobTable(self.database, ended=self.table.add)
        self.sender = WebhookSender(
            self.table, self.jobs.events, secret, delays_s=(0.01, 0.01), timeout_s=timeout_s
        )

    def ended(self, id: str, state: Any = "failed", **spec: Any) -> None:
        self.jobs.add(id, None, {"profile": {}, **spec})
        self.jobs.change_state(id, "running")
        error = {"code": "diverged", "detail": "no", "hint": "h", "status": 500}
        self.jobs.change_state(id, state, error=error if state == "failed" else None)

    def told(self, id: str) -> list[str]:
        return [event.data["message"] for event in self.jobs.events.read(id, kinds=("log",))]


def wait_for(found: Callable[[], Any]) -> None:
    until = time.monotonic() + 20
    while not found():
        assert time.monotonic() < until
        time.sleep(0.005)


@pytest.fixture
def desks(tmp_path: Path) -> Iterator[Callable[..., Desk]]:
    made: list[Desk] = []

    def desk(url: str | None, **options: Any) -> Desk:
        made.append(Desk(tmp_path / "db.sqlite", url, **options))
        return made[-1]

    yield desk
    for one in made:
        one.sender.close(5)
        one.database.close()
