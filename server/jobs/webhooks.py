"""Delivers messages about ended jobs: HTTP POST, signed, with a few further attempts, in a thread of its own.

Headers and signature are those of the Standard Webhooks specification (standardwebhooks.com), which has libraries
for receivers: `webhook-id`, `webhook-timestamp`, and `webhook-signature`, the HMAC-SHA256 of "id.timestamp.body".
"""

import base64
import binascii
import hashlib
import hmac
import logging
import math
import sqlite3
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx

from server.jobs.posts import Post, new_client
from server.store.events import EventTable
from server.store.webhooks import Message, WebhookTable
from steerzo_edge import __version__

log = logging.getLogger(__name__)
TIMEOUT_S = 10.0
# Before the second, third, ... attempt.
DELAYS_S = (5.0, 30.0, 120.0, 600.0)
RETRY_TABLE_S = 10.0
LEAST_WAIT_S = 0.01
AT_ONCE = 20
GONE = 410
_PREFIX = "whsec_"


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What is to be written about a message: attempts that were made, and when the next is due; None for never."""

    attempts: int
    due: float | None

    def is_due(self, now: float) -> bool:
        """Whether the next attempt is due."""
        return self.due is not None and self.due <= now


class WebhookSender:
    """Delivers the messages of a table; what a stopped server has not delivered, the next one delivers.

    Args:
        table: The messages.
        events: Where the outcome of every attempt is noted, in the job's events.
        secret: The operator's; None sends messages without a signature.
        delays_s: Seconds before each further attempt.
        timeout_s: Seconds that an attempt may take.
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
        self._unwritten: dict[str, _Outcome] = {}
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
        with new_client(self._timeout_s) as client:
            while not self._closing.is_set():
                self._table.added.clear()
                try:
                    wait_s = self._round(client)
                except sqlite3.Error as error:  # a database that was closed
                    log.warning("webhooks: the database cannot be read: %s", error)
                    wait_s = RETRY_TABLE_S
                except Exception as error:
                    # The message might hold an address, whose path may be secret.
                    log.error("webhooks: unexpected %s", type(error).__name__)
                    wait_s = RETRY_TABLE_S
                self._table.added.wait(0 if self._closing.is_set() else wait_s)

    def _round(self, client: httpx.Client) -> float | None:
        """Tries the messages that are due; returns in how many seconds to go on, None if no message waits."""
        self._write()
        is_idle = True
        # Those with an unwritten outcome are still due in the table; they must not hide the others.
        for message in self._table.due(AT_ONCE + len(self._unwritten)):
            if self._closing.is_set():
                break
            outcome = self._unwritten.get(message.id)
            if outcome is None or outcome.is_due(self._table.now()):
                self._attempt(client, message, 1 + (message.attempts if outcome is None else outcome.attempts))
                is_idle = False
        if not is_idle:
            return 0.0
        if not self._unwritten:
            return self._table.next_in_s()
        next_due = [outcome.due for outcome in self._unwritten.values() if outcome.due is not None]
        return min(RETRY_TABLE_S, max(LEAST_WAIT_S, min(next_due, default=math.inf) - self._table.now()))

    def _attempt(self, client: httpx.Client, message: Message, number: int) -> None:
        place = _place(message.url)
        said, status = self._post(client, message)
        due: float | None = None
        if status is not None and 200 <= status < 300:
            told = f"was told, attempt {number} ({said})"
        elif status == GONE or number > len(self._delays_s):
            told = f"was not told, given up after attempt {number} ({said})"
        else:
            delay_s = self._delays_s[number - 1]
            due = self._table.now() + delay_s
            told = f"was not told ({said}); attempt {number + 1} in {delay_s:g} s"
        self._unwritten[message.id] = _Outcome(number, due)
        self._write()
        self._tell(message, f"webhook: {place} {told}")

    def _write(self) -> None:
        """Writes outcomes; those that cannot be written stay known, so that no message is sent again for that."""
        for id, outcome in list(self._unwritten.items()):
            try:
                if outcome.due is None:
                    self._table.remove(id)
                else:
                    self._table.postpone(id, outcome.attempts, outcome.due)
            except sqlite3.Error as error:  # a full disk
                log.warning("webhooks: the database cannot be written: %s", error)
                return
            del self._unwritten[id]

    def _post(self, client: httpx.Client, message: Message) -> tuple[str, int | None]:
        """The outcome in words, and the status of the answer."""
        try:
            body = message.body.encode()
            status = Post(client, message.url, body, self._headers(message, body)).status(self._timeout_s)
            return f"status {status}", status
        except TimeoutError:
            return f"no answer within {self._timeout_s:g} s", None
        except Exception as error:  # its message may hold the address
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
        except sqlite3.Error:  # the job was deleted meanwhile, or the disk is full
            log.debug("job %s: no event could be written", message.job)


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
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an address that cannot be read"
    return f"{parts.scheme}://{parts.hostname}"
