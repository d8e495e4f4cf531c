"""Delivers messages about ended jobs: HTTP POST, signed, with a few further attempts, in a thread of its own.

Headers and signature are those of the Standard Webhooks specification (standardwebhooks.com), which has libraries
for receivers: `webhook-id`, `webhook-timestamp`, and `webhook-signature`, the HMAC-SHA256 of "id.timestamp.body".
"""

import base64
import binascii
import hashlib
import hmac
import logging
import sqlite3
import threading
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

import httpx

from server.store.events import EventTable
from server.store.webhooks import Message, WebhookTable
from steerzo_edge import __version__

log = logging.getLogger(__name__)
TIMEOUT_S = 10.0
# Before the second, third, ... attempt.
DELAYS_S = (5.0, 30.0, 120.0, 600.0)
RETRY_TABLE_S = 10.0
GONE = 410
_PREFIX = "whsec_"


class WebhookSender:
    """Delivers the messages of a table; what a stopped server has not delivered, the next one delivers.

    Args:
        table: The messages.
        events: Where the outcome of every attempt is noted, in the job's events.
        secret: The operator's; None sends messages without a signature.
        delays_s: Seconds before each further attempt.
        timeout_s: Seconds that a receiver may take for each part of an exchange.
    """

    def __init__(
        self,
        table: WebhookTable,
        events: EventTable,
        secret: str | None,
        *,
        delays_s: Sequence[float] = DELAYS_S,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._table = table
        self._events = events
        self._key = None if secret is None else key_of(secret)
        self._delays_s = delays_s
        self._timeout_s = timeout_s
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="webhooks", daemon=True)

    def start(self) -> None:
        """Starts the thread; what an earlier server left is tried at once."""
        self._table.make_due()
        self._thread.start()

    def close(self, timeout_s: float) -> None:
        """Ends the thread after its present attempt; waits so many seconds for it."""
        self._closing.set()
        self._table.added.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def _work(self) -> None:
        with httpx.Client(timeout=self._timeout_s, follow_redirects=False) as client:
            while not self._closing.is_set():
                self._table.added.clear()
                try:
                    for message in self._table.due():
                        if self._closing.is_set():
                            return
                        self._attempt(client, message)
                    wait_s = self._table.next_in_s()
                except sqlite3.Error as error:  # a full disk, or a database that was closed
                    log.warning("webhooks: the database cannot be read or written: %s", error)
                    wait_s = RETRY_TABLE_S
                self._table.added.wait(wait_s)

    def _attempt(self, client: httpx.Client, message: Message) -> None:
        number, place = message.attempts + 1, _place(message.url)
        outcome, status = self._post(client, message)
        if status is not None and 200 <= status < 300:
            self._table.remove(message.id)
            self._tell(message, f"webhook: {place} was told, attempt {number} ({outcome})")
        elif status == GONE or number > len(self._delays_s):
            self._table.remove(message.id)
            self._tell(message, f"webhook: {place} was not told, given up after attempt {number} ({outcome})")
        else:
            delay_s = self._delays_s[number - 1]
            self._table.postpone(message.id, delay_s)
            self._tell(message, f"webhook: {place} was not told ({outcome}); attempt {number + 1} in {delay_s:g} s")

    def _post(self, client: httpx.Client, message: Message) -> tuple[str, int | None]:
        """The outcome in words, and the status of the answer."""
        body = message.body.encode()
        try:
            # The answer's body is not read: it may be endless.
            with client.stream("POST", message.url, content=body, headers=self._headers(message, body)) as answer:
                return f"status {answer.status_code}", answer.status_code
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return type(error).__name__, None

    def _headers(self, message: Message, body: bytes) -> dict[str, str]:
        at = str(int(time.time()))
        headers = {
            "content-type": "application/json",
            "user-agent": f"steerzo-edge/{__version__}",
            "webhook-id": message.id,
            "webhook-timestamp": at,
        }
        if self._key is not None:
            headers["webhook-signature"] = signature(self._key, message.id, at, body)
        return headers

    def _tell(self, message: Message, outcome: str) -> None:
        log.info("job %s: %s", message.job, outcome)
        try:
            self._events.add_log(message.job, outcome)
        except sqlite3.IntegrityError:  # the job was deleted meanwhile
            log.debug("job %s is gone", message.job)


def key_of(secret: str) -> bytes:
    """The key that a secret stands for: base64 after "whsec_", as the specification has it; else its own bytes."""
    if secret.startswith(_PREFIX):
        try:
            return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
        except binascii.Error:
            pass
    return secret.encode()


def signature(key: bytes, id: str, timestamp: str, body: bytes) -> str:
    """The value of the header `webhook-signature`.

    Args:
        key: Of the operator.
        id: Of the message.
        timestamp: Seconds since the epoch, as sent.
        body: As sent.
    """
    digest = hmac.new(key, f"{id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def _place(url: str) -> str:
    """Scheme and host: the path may hold a receiver's secret, and clients read the events."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}"
