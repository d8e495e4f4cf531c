"""Prompts on the device: a bounded queue, and the batch of prompts that are answered together.

    ask     any thread: adds a prompt to the queue
    turn    the device's thread: drops prompts that are cancelled or too old, admits waiting ones while rows and
            memory suffice, and makes one decoding step for all; then one forward of texts that are scored

A prompt's tokens and adapter are looked up when it is admitted; it keeps that version of the adapter to its end.
"""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from server.device.scorings import Scorings
from server.errors import PromptTimeoutError
from server.system_errors import known_error_of
from steerzo_edge.decoding.answer import FinishReason, Generation, Logprobs
from steerzo_edge.decoding.decoder import Decoder, Piece, Request
from steerzo_edge.errors import BusyError, CapacityError, SteerzoError
from steerzo_edge.model.base import Base

log = logging.getLogger(__name__)
# While texts are scored, prompts get a token whenever their last one is this old.
STEP_EVERY_S = 0.03


class PromptListener(Protocol):
    """Gives a prompt and receives its answer."""

    def request(self, base: Base) -> Request:
        """The prompt, when it is admitted; called on the device's thread, may raise."""
        ...

    def on_text(self, text: str) -> None:
        """Receives a piece of the answer; called on the device's thread."""
        ...

    @property
    def has_left(self) -> bool:
        """Whether the client has gone, so that the answer is not wanted any more."""
        ...


@runtime_checkable
class LogprobListener(PromptListener, Protocol):
    """Also receives log-probabilities, if the request's sampling asks for them."""

    def on_logprobs(self, logprobs: Logprobs) -> None:
        """Receives the log-probabilities of the next piece's tokens, just before it; on the device's thread."""
        ...


@dataclass(frozen=True, slots=True)
class PromptLimits:
    """Bounds on prompts.

    Args:
        waiting: Most prompts that wait.
        rows: Most prompts that are answered together.
        cache_bytes: Memory for the keys and values of all of them.
        prefill_tokens: Most tokens of prompts that are read in one time slice.
        scored_tokens: Most tokens of texts that are scored in one time slice.
        timeout_s: From a prompt's arrival to the end of its answer.
    """

    waiting: int = 64
    rows: int = 32
    cache_bytes: int = 1 << 30
    prefill_tokens: int = 256
    scored_tokens: int = 512
    timeout_s: float = 600.0


@dataclass(slots=True)
class _Prompt:
    listener: PromptListener
    expires: float
    future: "Future[Generation]" = field(default_factory=Future)
    request: Request | None = None


class Prompts:
    """All prompts of a server.

    Args:
        limits: Bounds on them.
        now: A clock of monotonic seconds.

    Attributes:
        scorings: Texts that are scored.
    """

    def __init__(self, limits: PromptLimits, *, now: Callable[[], float] = time.monotonic) -> None:
        self.scorings = Scorings(limits.waiting, limits.scored_tokens, limits.timeout_s, now=now)
        self._limits = limits
        self._now = now
        self._is_scoring = False
        self._step_at = -math.inf
        self._lock = threading.Lock()
        self._waiting: deque[_Prompt] = deque()
        self._active: dict[int, _Prompt] = {}
        self._base: Base | None = None
        self._decoder: Decoder | None = None

    def open(self, base: Base) -> None:
        """Takes the loaded base; called once, on the device's thread."""
        self._base = base
        self._decoder = Decoder(base, prefill_tokens=self._limits.prefill_tokens)

    @property
    def waiting(self) -> int:
        """How many prompts wait to be admitted."""
        return len(self._waiting)

    @property
    def active(self) -> int:
        """How many prompts are being answered."""
        return len(self._active)

    @property
    def any(self) -> bool:
        """Whether any prompt waits or is being answered, or any text is to be scored."""
        return self._has_prompts or self.scorings.any

    @property
    def _has_prompts(self) -> bool:
        return bool(self._waiting or self._active)

    def ask(self, listener: PromptListener) -> "Future[Generation]":
        """Puts a prompt into the queue. May be called from any thread.

        Args:
            listener: Gives the prompt and receives the answer.

        Returns:
            The whole answer, or the error that the prompt failed with.

        Raises:
            BusyError: If too many prompts wait already.
        """
        prompt = _Prompt(listener, self._now() + self._limits.timeout_s)
        prompt.future.set_running_or_notify_cancel()  # cancellation goes through `has_left`, not through the future
        with self._lock:
            if len(self._waiting) >= self._limits.waiting:
                raise BusyError("too many prompts are waiting")
            self._waiting.append(prompt)
        return prompt.future

    def turn(self) -> None:
        """One time slice for all prompts and all texts that are scored, on the device's thread."""
        if self._has_prompts:
            self._step()
        if self.scorings.any:
            assert self._base is not None
            self._is_scoring = True
            try:
                self.scorings.turn(self._base)
            finally:
                self._is_scoring = False

    def step_meanwhile(self, base: Base) -> None:
        """Between two layers of a forward that scores texts, gives the prompts a token; else does nothing."""
        if self._is_scoring and self._has_prompts and self._now() >= self._step_at + STEP_EVERY_S:
            self._is_scoring = False
            try:
                base.catch_up()
                with base.preempted():
                    self._step()
            finally:
                self._is_scoring = True

    def _step(self) -> None:
        """One decoding step for all prompts."""
        assert self._decoder is not None
        try:
            self._drop()
            self._admit(self._decoder)
            pieces = self._decoder.step() if self._active else ()
        except Exception as error:  # any of the active prompts may have caused it, so all of them fail
            self._fail_active(known_error_of(error) or error)
            return
        for piece in pieces:
            self._deliver(piece)
        self._step_at = self._now()

    def give_up(self, error: SteerzoError) -> None:
        """Ends all prompts with an error, on the device's thread."""
        with self._lock:
            waiting, self._waiting = self._waiting, deque()
        for prompt in waiting:
            prompt.future.set_exception(error)
        self._fail_active(error)
        self.scorings.give_up(error)

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
                prompt.future.set_exception(PromptTimeoutError(f"the prompt was not admitted within {waited_s}"))

    def _admit(self, decoder: Decoder) -> None:
        """Admits prompts in order of arrival; none overtakes one that does not fit yet or was paused for memory."""
        while self._waiting and not decoder.parked and len(self._active) < self._limits.rows:
            prompt = self._waiting[0]  # only this thread removes prompts from the queue
            try:
                if prompt.request is None:
                    prompt.request = self._looked_up(prompt, decoder)
                if not self._has_room(prompt.request, decoder):
                    return
                self._active[decoder.add(prompt.request)] = prompt
            except Exception as error:  # only this prompt fails
                prompt.future.set_exception(known_error_of(error) or error)
            with self._lock:
                self._waiting.popleft()

    def _looked_up(self, prompt: _Prompt, decoder: Decoder) -> Request:
        assert self._base is not None
        request = prompt.listener.request(self._base)
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
                _pass_on(prompt.listener, piece)
            except Exception as raised:  # raised by the listener: only its prompt fails
                error = raised
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
    """Whether the client has gone; a listener that cannot say so counts as gone."""
    try:
        return prompt.listener.has_left
    except Exception:
        log.warning(
            "a prompt is cancelled: its listener failed to say whether the client is still there", exc_info=True
        )
        return True


def _pass_on(listener: PromptListener, piece: Piece) -> None:
    if piece.logprobs and isinstance(listener, LogprobListener):
        listener.on_logprobs(piece.logprobs)
    if piece.text or piece.logprobs:
        listener.on_text(piece.text)
