"""Texts that are scored on the device: a bounded queue of requests, of which each time slice takes a part.

A part is one forward of at most `tokens` tokens, or of a single row of texts that begin alike if that is longer.
Requests take turns, so a large one does not hold back a small one.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

from server.errors import PromptTimeoutError
from server.system_errors import known_error_of
from steerzo_edge.decoding.scoring import Scored, ScoringRequest, SharedRow, parts_of, scored, shared_rows
from steerzo_edge.errors import BusyError, SteerzoError
from steerzo_edge.model.base import Base
from steerzo_edge.model.patches import Patches


class ScoringListener(Protocol):
    """Gives texts to score."""

    texts: Sequence[ScoringRequest]
    """The texts."""

    def adapter(self) -> Patches | None:
        """The adapter's patches; called on the device's thread before the first part, may raise."""
        ...

    @property
    def has_left(self) -> bool:
        """Whether the client has gone, so that the numbers are not wanted any more."""
        ...


@dataclass(slots=True)
class _Scoring:
    listener: ScoringListener
    expires: float
    parts: deque[list[SharedRow]]
    future: "Future[list[Scored]]" = field(default_factory=Future)
    adapter: Patches | None = None
    has_begun: bool = False
    found: dict[int, Scored] = field(default_factory=dict)


class Scorings:
    """All requests to score texts.

    Args:
        waiting: Most requests that are in the queue.
        tokens: Most tokens of a forward.
        timeout_s: From a request's arrival to its end.
        now: A clock of monotonic seconds.
    """

    def __init__(
        self, waiting: int, tokens: int, timeout_s: float, *, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._most = waiting
        self._tokens = tokens
        self._timeout_s = timeout_s
        self._now = now
        self._lock = threading.Lock()
        self._queue: deque[_Scoring] = deque()

    @property
    def any(self) -> bool:
        """Whether any request is in the queue."""
        return bool(self._queue)

    def parts(self, texts: Sequence[ScoringRequest]) -> list[list[SharedRow]]:
        """Distributes texts over forwards. Any thread may call it."""
        return parts_of(shared_rows([text.tokens for text in texts]), self._tokens)

    def ask(self, listener: ScoringListener, parts: Sequence[list[SharedRow]]) -> "Future[list[Scored]]":
        """Puts a request into the queue. May be called from any thread.

        Args:
            listener: Gives the texts.
            parts: Its texts, distributed over forwards.

        Returns:
            The numbers of each text, or the error that the request failed with.

        Raises:
            BusyError: If too many requests wait already.
        """
        request = _Scoring(listener, self._now() + self._timeout_s, deque(parts))
        request.future.set_running_or_notify_cancel()  # cancellation goes through `has_left`
        with self._lock:
            if len(self._queue) >= self._most:
                raise BusyError("too many prompts are waiting")
            self._queue.append(request)
        return request.future

    def turn(self, base: Base) -> None:
        """One part of the first request that is still wanted, on the device's thread; the others come next."""
        with self._lock:
            request = self._queue.popleft()
        try:
            is_done = self._is_over(request) or self._is_scored(request, base)
        except Exception as error:  # only this request fails
            request.future.set_exception(known_error_of(error) or error)
            return
        if not is_done:
            with self._lock:
                self._queue.append(request)

    def give_up(self, error: SteerzoError) -> None:
        """Ends all requests with an error, on the device's thread."""
        with self._lock:
            queue, self._queue = self._queue, deque()
        for request in queue:
            request.future.set_exception(error)

    def _is_over(self, request: _Scoring) -> bool:
        """Whether the client of a request has left; the request is then ended without results."""
        if request.listener.has_left:
            request.future.set_result([])
            return True
        if self._now() >= request.expires:
            raise PromptTimeoutError(f"the texts could not be scored within {self._timeout_s:g} s")
        return False

    def _is_scored(self, request: _Scoring, base: Base) -> bool:
        """Computes the next part of a request; whether it was the last."""
        if not request.has_begun:
            request.adapter = request.listener.adapter()
            request.has_begun = True
        texts = request.listener.texts
        request.found |= scored(base, texts, request.parts.popleft(), request.adapter)
        if request.parts:
            return False
        request.future.set_result([request.found[index] for index in range(len(texts))])
        return True
