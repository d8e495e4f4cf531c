"""Tokens to text, as they come, in constant time for each.

Decoding all tokens again for each new one takes a quarter of a second a token towards the end of a long answer.
Only a tail is decoded here: a few tokens whose text is known already, as context, and the new ones behind them.

    tokens   ... o o o o [c c c c n n n]
    text     ... settled |known .|new      what `put` returns, unless it ends within a character

Context is needed because a token's text depends on its neighbours (a leading space is dropped at the start of a
text, one character may be several tokens). It begins where its text is how the longer text ends, so never within
a character. A run of bytes that is no UTF-8 may be marked by other numbers of marks than if all were decoded.
"""

from typing import Final

from transformers import PreTrainedTokenizerBase

MARK: Final = "\ufffd"
# Tokens that may lack a part of their character, and marks that may stand for it: all its bytes but the last.
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
        self._waiting = 0

    def put(self, token: int) -> str:
        """Takes the next token; returns the text that is certain now, which may be empty."""
        self._tail.append(token)
        text = self._decoded(self._tail)
        certain = len(text)
        if text.endswith(MARK):
            self._waiting += 1
            marks = min(MOST_WAITING, len(text) - len(text.rstrip(MARK)))
            # Some tokenizers mark a whole run of bytes, good ones too, while its last character is broken.
            certain = self._known if self._waiting <= MOST_WAITING else certain - marks
        else:
            self._waiting = 0
        new = text[self._known : certain]
        self._known = max(self._known, certain)
        if len(self._tail) >= (2 * LONGEST if self._waiting else LONGEST):
            self._shorten(text)
        return new

    def end(self) -> str:
        """No token comes any more; returns what has waited, broken characters included."""
        new = self._decoded(self._tail)[self._known :]
        self._known += len(new)
        return new

    def _shorten(self, text: str) -> None:
        """Keeps a few tokens as context, if there is a place to cut at; after a long run of none, cuts anywhere."""
        unknown = len(text) - self._known
        for size in range(CONTEXT, LONGEST):
            tail = self._tail[-size:]
            kept = self._decoded(tail)
            is_place = text.endswith(kept) and len(kept) > unknown
            if is_place or len(self._tail) >= 4 * LONGEST:
                self._tail, self._known = tail, max(0, len(kept) - unknown)
                return

    def _decoded(self, tokens: list[int]) -> str:
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False))
