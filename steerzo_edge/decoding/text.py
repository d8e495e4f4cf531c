"""Tokens to text, as they come, in constant time for each.

Decoding all tokens again for each new one takes a quarter of a second a token towards the end of a long answer.
Only a tail is decoded here: a few tokens whose text is known already, as context, and the new ones behind them.

    tokens   ... o o o o [c c c c n n n]
    text     ... settled |known .|new      what `put` returns; at most three marks of a broken character wait

Context is needed because a token's text depends on its neighbours (a leading space is dropped at the start of a
text, one character may be several tokens). It begins where its text is how the longer text ends, so never within
a character. A run of bytes that is no UTF-8 may be marked by other numbers of marks than if all were decoded.
"""

from typing import Final

from transformers import PreTrainedTokenizerBase

MARK: Final = "\ufffd"
# What may still become a character: the bytes of one but the last.
MOST_WAITING = 3
CONTEXT = 4
LONGEST = 24


class Text:
    """The text of tokens that come one by one; once returned, it does not change.

    Args:
        tokenizer: Of the base.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._tail: list[int] = []
        self._known = 0

    def put(self, token: int) -> str:
        """Takes the next token; returns the text that is certain now, which may be empty."""
        self._tail.append(token)
        text = self._decoded(self._tail)
        certain = len(text) - min(MOST_WAITING, len(text) - len(text.rstrip(MARK)))
        new = text[self._known : certain]
        self._known = max(self._known, certain)
        if len(self._tail) >= LONGEST:
            self._shorten(text)
        return new

    def end(self) -> str:
        """No token comes any more; returns what has waited, broken characters included."""
        new = self._decoded(self._tail)[self._known :]
        self._known += len(new)
        return new

    def _shorten(self, text: str) -> None:
        """Keeps a few tokens as context, if there is a place to cut at."""
        unknown = len(text) - self._known
        for size in range(CONTEXT, len(self._tail)):
            tail = self._tail[-size:]
            kept = self._decoded(tail)
            if len(kept) > unknown and text.endswith(kept):
                self._tail, self._known = tail, len(kept) - unknown
                return

    def _decoded(self, tokens: list[int]) -> str:
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False))
