"""Decodes tokens to text one by one, in constant time per token.

Decoding all tokens again for each new one takes a quarter of a second per token near the end of a long answer. Only
a tail is decoded here: a few tokens whose text is already known, as context, and the new ones after them.

    tokens   ... o o o o [c c c c n n n]
    text     ... settled |known .|new      `put` returns the new text, unless it ends within a character

Context is needed because a token's text depends on its neighbours (a leading space is dropped at the start of a
text, and one character may be several tokens). Context begins at a token from which the decoded text is the end of
the longer text, so never within a character. Bytes that are not valid UTF-8 become replacement marks; their number
may differ from that in a decoding of all tokens.
"""

from collections.abc import Collection
from typing import Final

from transformers import PreTrainedTokenizerBase

MARK: Final = "\ufffd"
# A character has up to 4 bytes: at most 3 tokens, and 3 marks for them, wait for the rest of their character.
MOST_WAITING = 3
CONTEXT = 4
LONGEST = 24


class Text:
    """The text of tokens that are put in one by one; text that was returned does not change.

    Args:
        tokenizer: Of the base.
        shown: Control tokens whose names are part of the text; all others have no text.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, shown: Collection[int] = ()) -> None:
        self._tokenizer = tokenizer
        self._shown = shown
        self._tail: list[int] = []
        self._known = 0
        self._waiting = 0

    def put(self, token: int) -> str:
        """Takes the next token; returns the new text that can no longer change, perhaps empty."""
        if token in self._shown:
            return self.end() + self._begin_after(token)
        self._tail.append(token)
        text = self._decoded(self._tail)
        certain = len(text)
        if text.endswith(MARK):
            self._waiting += 1
            marks = min(MOST_WAITING, len(text) - len(text.rstrip(MARK)))
            # Some tokenizers mark all bytes of a run, valid ones too, until its last character is complete.
            certain = self._known if self._waiting <= MOST_WAITING else certain - marks
        else:
            self._waiting = 0
        new = text[self._known : certain]
        self._known = max(self._known, certain)
        if len(self._tail) >= (2 * LONGEST if self._waiting else LONGEST):
            self._shorten(text)
        return new

    def end(self) -> str:
        """Ends the text; returns the rest, incomplete characters included."""
        new = self._decoded(self._tail)[self._known :]
        self._known += len(new)
        return new

    def _begin_after(self, token: int) -> str:
        """Begins a new text after a control token; returns the token's name."""
        self._tail, self._known, self._waiting = [], 0, 0
        return str(self._tokenizer.convert_ids_to_tokens(token))

    def _shorten(self, text: str) -> None:
        """Cuts the tail to a few tokens of context at a valid place; when it is too long, at any place."""
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
