"""Prompts on the device: those that wait, those that are answered together, and who may join.

    ask     any thread: into the queue, which has a bound
    turn    the device's thread: drop who has left or waited too long, admit by rows and memory, one step for all

A prompt's adapter and its tokens are looked up when it joins, and it keeps that version of the adapter to its end.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from server.faults import known_error_of
from server.problems import PromptTimeoutError
from steerzo_edge.decoding.answer import FinishReason, Generation, Logprobs
from steerzo_edge.decoding.decoder import Decoder, Piece, Request
from steerzo_edge.errors import BusyError, CapacityError, SteerzoError
from steerzo_edge.model.base import Base

log = logging.getLogger(__name__)


class PromptListener(Protocol):
    """Who wants a prompt answered."""

    def request(self, base: Base) -> Request:
        """What is asked, on the device's thread, when the turn has come; may raise."""
        ...

    def hear(self, text: str) -> None:
        """Takes a piece of the answer, on the device's thread."""
        ...

    @property
    def has_left(self) -> bool:
        """Whether nobody wants the answer any more."""
        ...


@runtime_checkable
class LogprobListener(PromptListener, Protocol):
    """Who also wants to know how likely the tokens were, and said so in the request's sampling."""

    def hear_logprobs(self, logprobs: Logprobs) -> None:
        """Takes those of the next piece's tokens, just before the piece, on the device's thread."""
        ...


@dataclass(frozen=True, slots=True)
class Limits:
    """What prompts may take.

    Args:
        waiting: Prompts that may wait.
        rows: Prompts that are answered together.
        cache_bytes: Memory for the keys and values of all of them.
        prefill_tokens: Tokens of prompts that are read in one quantum.
        timeout_s: From arrival to the end of the answer.
    """

    waiting: int = 64
    rows: int = 32
    cache_bytes: int = 1 << 30
    prefill_tokens: int = 256
    timeout_s: float = 600.0


@dataclass(slots=True)
class _Prompt:
    asker: PromptListener
    expires: float
    future: "Future[Generation]" = field(default_factory=Future)
    request: Request | None = None


class Prompts:
    """All prompts of a server.

    Args:
        limits: What they may take.
        now: Monotonic seconds.
    """

    def __init__(self, limits: Limits, *, now: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._now = now
        self._lock = threading.Lock()
        self._waiting: deque[_Prompt] = deque()
        self._active: dict[int, _Prompt] = {}
        self._base: Base | None = None
        self._decoder: Decoder | None = None

    def open(self, base: Base) -> None:
        """Called once, on the device's thread, when the base is loaded."""
        self._base = base
        self._decoder = Decoder(base, prefill_tokens=self._limits.prefill_tokens)

    @property
    def waiting(self) -> int:
        """Prompts whose turn has not come."""
        return len(self._waiting)

    @property
    def active(self) -> int:
        """Prompts that are being answered."""
        return len(self._active)

    @property
    def any(self) -> bool:
        """Whether there is something to do."""
        return bool(self._waiting or self._active)

    def ask(self, asker: PromptListener) -> "Future[Generation]":
        """Puts a prompt into the queue. May be called from any thread.

        Args:
            asker: Told about the answer.

        Returns:
            The answer, or what the prompt is refused for.

        Raises:
            BusyError: If too many wait already.
        """
        prompt = _Prompt(asker, self._now() + self._limits.timeout_s)
        prompt.future.set_running_or_notify_cancel()  # whoever leaves says so by `has_left`
        with self._lock:
            if len(self._waiting) >= self._limits.waiting:
                raise BusyError("too many prompts are waiting")
            self._waiting.append(prompt)
        return prompt.future

    def turn(self) -> None:
        """One quantum for all prompts, on the device's thread."""
        assert self._decoder is not None
        try:
            self._drop()
            self._admit(self._decoder)
            pieces = self._decoder.step() if self._active else ()
        except Exception as error:  # the decoder could not tell whose it was
            self._fail_active(known_error_of(error) or error)
            return
        for piece in pieces:
            self._deliver(piece)

    def give_up(self, error: SteerzoError) -> None:
        """Answers all prompts with an error, on the device's thread."""
        with self._lock:
            waiting, self._waiting = self._waiting, deque()
        for prompt in waiting:
            prompt.future.set_exception(error)
        self._fail_active(error)

    def _drop(self) -> None:
        now = self._now()
        for ticket, prompt in list(self._active.items()):
            if _has_left(prompt):
                self._end(ticket, "cancelled")
            elif now >= prompt.expires:
                self._end(ticket, "timeout")
        with self._lock:
            gone = [prompt for prompt in self._waiting if _has_left(prompt) or now >= prompt.expires]
            for prompt in gone:
                self._waiting.remove(prompt)
        for prompt in gone:
            if _has_left(prompt):
                prompt.future.set_result(Generation("", "cancelled", 0, 0))
            else:
                waited_s = f"{self._limits.timeout_s:g} s"
                prompt.future.set_exception(PromptTimeoutError(f"the prompt's turn did not come within {waited_s}"))

    def _admit(self, decoder: Decoder) -> None:
        """First come, first served: who does not fit yet, or has had to make room, is not overtaken."""
        while self._waiting and not decoder.parked and len(self._active) < self._limits.rows:
            prompt = self._waiting[0]  # only this thread takes any out
            try:
                if prompt.request is None:
                    prompt.request = self._looked_up(prompt, decoder)
                if not self._has_room(prompt.request, decoder):
                    return
                self._active[decoder.add(prompt.request)] = prompt
            except Exception as error:  # belongs to whoever asked
                prompt.future.set_exception(known_error_of(error) or error)
            with self._lock:
                self._waiting.popleft()

    def _looked_up(self, prompt: _Prompt, decoder: Decoder) -> Request:
        assert self._base is not None
        request = prompt.asker.request(self._base)
        needed, most = decoder.cache_bytes([request]), self._limits.cache_bytes
        if needed > most:
            raise CapacityError(
                f"prompt and answer need {needed:,} bytes for keys and values; there are {most:,}",
                hint="Ask for fewer tokens, or raise the server's max_cache_bytes.",
            )
        return request

    def _has_room(self, request: Request, decoder: Decoder) -> bool:
        active = [prompt.request for prompt in self._active.values() if prompt.request is not None]
        return decoder.cache_bytes([*active, request]) <= self._limits.cache_bytes

    def _end(self, ticket: int, reason: FinishReason) -> None:
        assert self._decoder is not None
        piece = self._decoder.end(ticket, reason)
        if reason == "timeout" and piece.tokens == 0:
            spent_s = f"{self._limits.timeout_s:g} s"
            error = PromptTimeoutError(f"the prompt could not be read within {spent_s}")
            self._active.pop(ticket).future.set_exception(error)
            return
        self._deliver(piece)

    def _deliver(self, piece: Piece) -> None:
        prompt = self._active[piece.ticket]
        error = piece.error
        if error is None:
            try:
                _tell(prompt.asker, piece)
            except Exception as unheard:  # belongs to who could not hear it
                error = unheard
                if piece.made is None and self._decoder is not None:
                    self._decoder.end(piece.ticket, "cancelled")
        if error is not None:
            del self._active[piece.ticket]
            prompt.future.set_exception(known_error_of(error) or error)
        elif piece.made is not None:
            del self._active[piece.ticket]
            prompt.future.set_result(piece.made)

    def _fail_active(self, error: Exception) -> None:
        active, self._active = self._active, {}
        if self._decoder is not None:
            self._decoder.clear()
        for prompt in active.values():
            prompt.future.set_exception(error)


def _has_left(prompt: _Prompt) -> bool:
    """Who cannot be asked is not there."""
    try:
        return prompt.asker.has_left
    except Exception:
        log.warning("a prompt's client cannot be asked whether it is there", exc_info=True)
        return True


def _tell(asker: PromptListener, piece: Piece) -> None:
    if piece.logprobs and isinstance(asker, LogprobListener):
        asker.hear_logprobs(piece.logprobs)
    if piece.text or piece.logprobs:
        asker.hear(piece.text)
