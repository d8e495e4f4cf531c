"""One HTTP POST that ends within a deadline, whatever the receiver does.

The timeouts of httpx count for every connect and every read anew, so a receiver that sends a byte now and then, or
that has many addresses, could hold a request without bound. The request therefore runs in a thread of its own: who
waits for it stops waiting at the deadline, and shuts the socket down, which ends the thread.
"""

import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import httpx

_CONNECTED = (".connect_tcp.complete", ".start_tls.complete")


def new_client(timeout_s: float) -> httpx.Client:
    """A client for `Post`: follows no redirect, and keeps no connection, so that every post sees its own opened.

    Args:
        timeout_s: Seconds for each part of an exchange.
    """
    return httpx.Client(timeout=timeout_s, follow_redirects=False, limits=httpx.Limits(max_keepalive_connections=0))


class Post:
    """A POST; of its answer only the status is read.

    Args:
        client: Of `new_client`.
        url: Where to.
        body: What is sent.
        headers: Of the request.
    """

    def __init__(self, client: httpx.Client, url: str, body: bytes, headers: Mapping[str, str]) -> None:
        self._client = client
        self._url = url
        self._body = body
        self._headers = dict(headers)
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._is_late = False
        self._status: int | None = None
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._work, name="webhook-post", daemon=True)

    def status(self, within_s: float) -> int:
        """Sends it, and returns the status of the answer.

        Args:
            within_s: Seconds for everything together.

        Raises:
            TimeoutError: If they have passed.
            Exception: Whatever else went wrong; its message may hold the address.
        """
        self._thread.start()
        self._thread.join(within_s)
        with self._lock:
            if self._status is not None:
                return self._status
            if self._error is not None and not isinstance(self._error, httpx.TimeoutException):
                raise self._error
            self._is_late = True
            self._shut_down()
        raise TimeoutError

    def _work(self) -> None:
        try:
            # The answer's body is not read: it may be endless.
            with (
                self._client.stream(
                    "POST", self._url, content=self._body, headers=self._headers, extensions={"trace": self._note}
                ) as answer,
                self._lock,
            ):
                self._status = answer.status_code
        except Exception as error:  # a bad address, and all that can go wrong in a network
            with self._lock:
                self._error = error

    def _note(self, event: str, info: Mapping[str, Any]) -> None:
        """Keeps the socket of a connection that was opened; nothing is sent over one that is opened too late."""
        if event.endswith(_CONNECTED):
            with self._lock:
                self._socket = info["return_value"].get_extra_info("socket")
                if self._is_late:
                    self._shut_down()

    def _shut_down(self) -> None:
        if self._socket is not None:
            with suppress(OSError):  # it has been closed
                # Not the method of a TLS socket, which may not be called while another thread reads.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
