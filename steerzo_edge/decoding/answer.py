"""An answer while it is made: tokens in, text that is certain out, and why it ends."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from transformers import PreTrainedTokenizerBase

from steerzo_edge.decoding.sampling import Sampling

FinishReason = Literal["stop", "length", "cancelled", "timeout"]


@dataclass(frozen=True, slots=True)
class Generation:
    """A finished answer.

    Args:
        text: Without what ended it.
        finish_reason: "stop" for an end token or a stop text, "length" after max_new_tokens, "cancelled" if nobody
            wanted the rest, "timeout" if it took too long.
        prompt_tokens: Length of the prompt.
        completion_tokens: Tokens generated, one that ended it included.
    """

    text: str
    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int


class Answer:
    """Receives tokens, and gives the text that later tokens can neither change nor cut.

    Args:
        tokenizer: Of the base.
        ends: Tokens that end a text.
        sampling: Its stop texts and its length.

    Attributes:
        reason: Why it has ended; None while it goes on.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, ends: Collection[int], sampling: Sampling) -> None:
        self.reason: FinishReason | None = None
        self._tokenizer = tokenizer
        self._ends = ends
        self._sampling = sampling
        self._tokens: list[int] = []
        self._text = ""
        self._sent = 0

    def put(self, token: int) -> str:
        """Takes the next token; returns the piece of text that is certain now, which may be empty."""
        self._tokens.append(token)
        if token in self._ends:
            self.reason = "stop"
        else:
            self._read()
            if self.reason is None and len(self._tokens) >= self._sampling.max_new_tokens:
                self.reason = "length"
        return self._send(self._certain())

    def end(self, reason: FinishReason) -> str:
        """Ends it from outside; returns the rest of the text."""
        self.reason = self.reason or reason
        return self._send(len(self._text))

    def finished(self, prompt_tokens: int) -> Generation:
        """All of it, once it has ended.

        Args:
            prompt_tokens: Length of the prompt.
        """
        assert self.reason is not None
        return Generation(self._text, self.reason, prompt_tokens, len(self._tokens))

    def _read(self) -> None:
        self._text = self._tokenizer.decode(self._tokens, skip_special_tokens=True)
        found = [self._text.find(stop) for stop in self._sampling.stop if stop in self._text]
        if found:
            self._text, self.reason = self._text[: min(found)], "stop"

    def _certain(self) -> int:
        end = len(self._text)
        if self.reason is None:
            while end and self._text[end - 1] == "\ufffd":  # half of a character
                end -= 1
            for stop in self._sampling.stop:
                for size in range(min(len(stop) - 1, end), 0, -1):
                    if self._text[:end].endswith(stop[:size]):
                        end -= size
                        break
        return end

    def _send(self, end: int) -> str:
        piece = self._text[self._sent : end]
        self._sent = max(self._sent, end)
        return piece
