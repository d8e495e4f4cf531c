"""What goes wrong around webhooks neither ends the sender, nor repeats a message without end, nor tells secrets."""

import logging
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from server import logs
from server.settings import from_environment
from steerzo_edge.errors import InputError
from tests.server.webhook_desk import Desk, Receiver, wait_for


@contextmanager
def dripping(head: bytes) -> Iterator[str]:
    """The address of a receiver that sends a head, and then a byte every 20 ms."""
    ended = threading.Event()

    def drip(listener: socket.socket) -> None:
        with listener.accept()[0] as connection:
            try:
                connection.sendall(head)
                while not ended.wait(0.02):
                    connection.sendall(b"x")
            except OSError:
                ended.set()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=drip, args=(listener,))
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        assert ended.wait(10)  # the sender has closed the connection
        thread.join()


@pytest.fixture
def restored_logging() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in (None, "httpx", "httpcore", "python_multipart")]
    before = [(logger, logger.level, list(logger.handlers)) for logger in loggers]
    # Not closed by `configure`, which would close pytest's own.
    logging.getLogger().handlers = []
    yield
    for logger, level, handlers in before:
        logger.setLevel(level)
        logger.handlers = handlers


@pytest.mark.usefixtures("restored_logging")
@pytest.mark.parametrize("level", ["debug", "info"])
def test_a_delivery_leaves_no_path_and_no_query_in_the_log(
    receiver: Receiver, desks: Callable[..., Desk], capsys: pytest.CaptureFixture[str], level: str
) -> None:
    logs.configure("text", level)
    desk = desks(receiver.url.replace("//", "//user:hidden-password@") + "?token=secret-query")
    desk.sender.start()
    desk.ended("job_1")
    wait_for(lambda: desk.told("job_1"))
    desk.sender.close(5)
    logged = capsys.readouterr().err
    assert len(receiver.received) == 1
    assert "http://127.0.0.1 was told" in logged
    assert not [secret for secret in ("secret-path", "secret-query", "hidden-password") if secret in logged]


def test_a_receiver_that_drips_its_answer_is_left_after_the_timeout(desks: Callable[..., Desk]) -> None:
    with dripping(b"HTTP/1.1 200 OK\r\nx-endless: ") as url:
        desk = desks(url, timeout_s=0.2)
        desk.sender.start()
        began = time.monotonic()
        desk.ended("job_1")
        wait_for(lambda: desk.told("job_1"))
        assert time.monotonic() - began < 5
    assert "no answer within 0.2 s" in desk.told("job_1")[0]


def test_an_endless_body_is_not_read(desks: Callable[..., Desk]) -> None:
    with dripping(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n") as url:
        desk = desks(url)
        desk.sender.start()
        desk.ended("job_1")
        wait_for(lambda: desk.told("job_1"))
    assert desk.told("job_1") == ["webhook: http://127.0.0.1 was told, attempt 1 (status 200)"]


def test_an_address_that_cannot_be_used_ends_no_thread(receiver: Receiver, desks: Callable[..., Desk]) -> None:
    desk = desks("http://[x")
    desk.sender.start()
    desk.ended("job_1", webhook=receiver.url)
    wait_for(lambda: len(receiver.received) == 1 and desk.table.next_in_s() is None)
    wait_for(lambda: len(desk.told("job_1")) == 4)
    assert "an address that cannot be read was not told, given up after attempt 3" in desk.told("job_1")[-1]
    assert not [line for line in desk.told("job_1") if "[x" in line]


def failing(*_: Any) -> None:
    raise sqlite3.OperationalError("database or disk is full")


def test_what_was_delivered_is_not_sent_again_while_the_disk_is_full(
    receiver: Receiver, desks: Callable[..., Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.jobs.webhooks.RETRY_TABLE_S", 0.02)
    monkeypatch.setattr("server.jobs.webhooks.AT_ONCE", 1)
    desk = desks(receiver.url)
    with monkeypatch.context() as full:
        full.setattr(desk.table, "remove", failing)
        for number in range(3):
            desk.ended(f"job_{number}")
        desk.sender.start()
        wait_for(lambda: all(desk.told(f"job_{number}") for number in range(3)))
        time.sleep(0.1)
        assert len(receiver.received) == 3
        assert len(desk.table.due()) == 3
    wait_for(lambda: desk.table.next_in_s() is None)
    assert len(receiver.received) == 3


def test_attempts_are_counted_while_the_disk_is_full(
    receiver: Receiver, desks: Callable[..., Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.jobs.webhooks.RETRY_TABLE_S", 0.02)
    receiver.statuses = [500] * 20
    desk = desks(receiver.url)
    for method in ("remove", "postpone"):
        monkeypatch.setattr(desk.table, method, failing)
    desk.sender.start()
    desk.ended("job_1")
    wait_for(lambda: len(desk.told("job_1")) == 3)
    time.sleep(0.1)
    assert len(receiver.received) == 3
    assert "given up after attempt 3" in desk.told("job_1")[-1]


@pytest.mark.parametrize(
    "url", ["http://[x", "http://", "https://host:port/", "http://host:99999", "https://a b/c"]
)
def test_an_operators_address_is_checked_at_the_start(url: str) -> None:
    for name in ("STEERZO_WEBHOOK", "STEERZO_WEBHOOK_PREFIXES"):
        with pytest.raises(InputError, match=r"webhook.*(such as https://host/path|should match)"):
            from_environment({name: url})
    from_environment({"STEERZO_WEBHOOK": "https://user:password@host:8443/path?query=1"})
