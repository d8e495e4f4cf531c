"""An answer that is being generated: takes tokens, gives text that can no longer change, and notes why it ended."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Literal

from transformers import PreTrainedTokenizerBase

from steerzo_edge.decoding.logprobs import TokenLogprob
from steerzo_edge.decoding.sampling import Sampling
from steerzo_edge.decoding.text import Text

FinishReason = Literal["stop", "length", "cancelled", "timeout"]
Logprobs = tuple[TokenLogprob, ...]


@dataclass(frozen=True, slots=True)
class Generation:
    """A finished answer.

    Args:
        text: The answer, without the end token or stop text.
        finish_reason: "stop" after an end token, a stop text, or the end of the form that the answer must have;
            "length" after max_new_tokens, "cancelled" if the request was cancelled, "timeout" if it took too long.
        prompt_tokens: Length of the prompt.
        completion_tokens: Number of generated tokens, the end token included.
        logprobs: Log-probabilities of the text's tokens, if requested; without those of the end token or stop text.
    """

    text: str
    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    logprobs: Logprobs = ()


class PartialAnswer:
    """Takes tokens one by one, and gives the text that later tokens can neither change nor cut off.

    Args:
        tokenizer: Of the base.
        ends: Tokens that end a text.
        sampling: Gives the stop texts and the largest number of tokens.

    Attributes:
        reason: Why the answer ended; None until it has.
        tokens: The tokens that it has taken.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, ends: Collection[int], sampling: Sampling) -> None:
        self.reason: FinishReason | None = None
        self.tokens: list[int] = []
        self._reader = Text(tokenizer, sampling.shown_tokens)
        self._ends = ends
        self._sampling = sampling
        self._text = ""
        self._sent = 0
        self._waiting: list[TokenLogprob] = []
        self._logprobs: list[TokenLogprob] = []

    def put(
        self, token: int, logprob: TokenLogprob | None = None, *, is_complete: bool = False
    ) -> tuple[str, Logprobs]:
        """Takes the next token.

        Args:
            token: Its id.
            logprob: How likely it was, if requested.
            is_complete: Whether the answer has a form that no token may follow.

        Returns:
            The next piece of text that can no longer change, perhaps empty; and the log-probabilities of its
            tokens.
        """
        self.tokens.append(token)
        if token in self._ends:
            return self.end("stop")
        if logprob is not None:
            self._waiting.append(replace(logprob, offset=len(self._text)))
        self._extend(self._reader.put(token))
        if self.reason is None and is_complete:
            return self.end("stop")
        if self.reason is None and len(self.tokens) >= self._sampling.max_new_tokens:
            return self.end("length")
        return self._send(self._certain_length())

    def end(self, reason: FinishReason) -> tuple[str, Logprobs]:
        """Ends the answer for a reason that its tokens do not show; returns the rest of the text, as `put` does."""
        self._extend(self._reader.end())
        self.reason = self.reason or reason
        text, logprobs = self._send(len(self._text))
        return text, logprobs + self._release(len(self._waiting))

    def finished(self, prompt_tokens: int) -> Generation:
        """The whole answer; it must have ended.

        Args:
            prompt_tokens: Length of the prompt.
        """
        assert self.reason is not None
        return Generation(self._text, self.reason, prompt_tokens, len(self.tokens), tuple(self._logprobs))

    def _extend(self, text: str) -> None:
        """Appends new text, and cuts it at the first stop text."""
        stops = self._sampling.stop
        before = len(self._text)
        self._text += text
        if not text or not stops:
            return
        places = [self._text.find(stop, max(0, before - len(stop) + 1)) for stop in stops]
        found = [place for place in places if place >= 0]
        if found:
            self._text, self.reason = self._text[: min(found)], "stop"
            self._waiting = [one for one in self._waiting if one.offset < len(self._text)]

    def _certain_length(self) -> int:
        """Characters that are not the beginning of a stop text that later tokens may complete."""
        end = len(self._text)
        if self.reason is None:
            for stop in self._sampling.stop:
                for size in range(min(len(stop) - 1, end), 0, -1):
                    if self._text.endswith(stop[:size], 0, end):
                        end -= size
                        break
        return end

    def _send(self, end: int) -> tuple[str, Logprobs]:
        piece = self._text[self._sent : end]
        self._sent = max(self._sent, end)
        return piece, self._release(sum(one.offset < self._sent for one in self._waiting))

    def _release(self, count: int) -> Logprobs:
        """Takes the log-probabilities of the first `count` tokens that wait until their text is sent."""
        found = tuple(self._waiting[:count])
        del self._waiting[:count]
        self._logprobs += found
        return found
