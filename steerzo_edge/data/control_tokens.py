"""Text that users write stays text, also where it spells a control token such as <|im_end|>.

A tokenizer reads a control token wherever its spelling occurs. So whoever writes a row or a message could end a
turn, or begin one of the system. Here only the chat template's own text has control tokens:

    a text           is tokenized as usual; if a control token came out, it is tokenized again by a copy of the
                     tokenizer in which control tokens have secret names, so that no text spells them
    a conversation   spellings in the users' texts are replaced by marks, and the template is rendered; the control
                     tokens spelled in the result are the template's and get their secret names; the marks become
                     the spellings again; the copy tokenizes the result

Texts that spell no control token have the same tokens as without this. A tokenizer for which `read_control_tokens`
was called reads them in all texts.
"""

import json
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final
from weakref import WeakKeyDictionary

from tokenizers import AddedToken, Tokenizer
from transformers import PreTrainedTokenizerBase

from steerzo_edge.errors import InputError

# The characters are from Unicode's private use area. A text that has a secret name or a mark in it is not possible
# without knowing this number.
_SECRET: Final = secrets.token_hex(8)
_MARK: Final = re.compile(f"\ue002{_SECRET}:([0-9a-f]*)\ue003")
_READS: Final = "reads_control_tokens"
_KNOWN: "WeakKeyDictionary[PreTrainedTokenizerBase, ControlTokens]" = WeakKeyDictionary()


def read_control_tokens(tokenizer: PreTrainedTokenizerBase) -> None:
    """Makes this tokenizer, and copies of it, read control tokens in all texts: a decision of the operator."""
    setattr(tokenizer, _READS, True)


def are_read(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether `read_control_tokens` was called for this tokenizer."""
    return bool(getattr(tokenizer, _READS, False))


def control_tokens(tokenizer: PreTrainedTokenizerBase) -> "ControlTokens":
    """The control tokens of a tokenizer; looked up once."""
    found = _KNOWN.get(tokenizer)
    if found is None:
        found = _KNOWN[tokenizer] = ControlTokens(tokenizer)
    return found


class ControlTokens:
    """The control tokens of a tokenizer: its added tokens that are marked as special.

    Args:
        tokenizer: One of the library `tokenizers`; others have no control tokens here, so texts that spell one are
            refused.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._backend: Tokenizer | None = getattr(tokenizer, "backend_tokenizer", None)
        added: Mapping[int, AddedToken] = tokenizer.added_tokens_decoder
        special = {index: token for index, token in added.items() if token.special and token.content}
        self._ids = frozenset(special)
        self._frame = sum(token in self._ids for token in tokenizer("").input_ids)
        self._names = {token.content: f"\ue000{_SECRET}:{index}\ue001" for index, token in special.items()}
        self._varies = any(token.normalized for token in special.values())
        spelled = list(self._names)
        self._starts = re.compile(f"[{re.escape(''.join({text[0] for text in spelled}))}]" if spelled else "(?!)")
        self._lengths = sorted({len(text) for text in spelled}, reverse=True)
        self._beginnings = {text[:end] for text in spelled for end in range(1, len(text))}
        self._endings = {text[start:] for text in spelled for start in range(1, len(text))}
        self._longest = max(map(len, spelled), default=0)
        self._copy: tuple[Tokenizer, dict[int, int]] | None = None

    def occurs(self, text: str) -> bool:
        """Whether a text spells a control token."""
        return next(self._places(text), None) is not None

    def came_out(self, tokens: list[int], *, frame: bool) -> bool:
        """Whether a text's tokens have control tokens besides those that the tokenizer puts around every text.

        Args:
            tokens: Of the text.
            frame: Whether they have the tokenizer's own tokens around them.
        """
        if not (frame and self._frame):
            return not self._ids.isdisjoint(tokens)
        return sum(token in self._ids for token in tokens) > self._frame

    def as_text(self, text: str, *, frame: bool) -> list[int]:
        """The tokens of a text in which only secret names are control tokens.

        Args:
            text: With secret names instead of the template's control tokens, if it comes from a template.
            frame: Whether to put the tokenizer's own tokens around it.
        """
        if self._copy is None:
            self._copy = self._copied()
        tokenizer, ids = self._copy
        return [ids.get(token, token) for token in tokenizer.encode(text, add_special_tokens=frame).ids]

    def marked(self, value: Any) -> Any:
        """A value for a chat template, with marks in its texts where they spell a control token.

        The ends of a text are marked too where, together with the template's text, they might spell one.
        """
        if isinstance(value, Mapping):
            return {self.marked(key): self.marked(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.marked(inner) for inner in value]
        return self._marked(value) if isinstance(value, str) else value

    def rendered(self, text: str) -> list[int]:
        """The tokens of a template's text, marks and all."""
        return self.as_text(unmarked(self._replaced(text, self._names.__getitem__)), frame=False)

    def _marked(self, text: str) -> str:
        if not text.strip():  # blanks spell none
            return text
        if self._varies and self._varied(text):
            blank = len(text) - len(text.lstrip())
            return text[:blank] + _mark(text.strip()) + text[len(text.rstrip()) :]
        text = self._replaced(text, _mark)
        text = self._marked_end(text[: len(text.rstrip())]) + text[len(text.rstrip()) :]
        blank = len(text) - len(text.lstrip())
        return text[:blank] + self._marked_start(text[blank:])

    def _places(self, text: str) -> Iterator[tuple[int, int]]:
        """Where control tokens are spelled, from left to right, the longest of those that begin at one place.

        A regular expression of all spellings would try thousands of them at each place for some tokenizers.
        """
        end = 0
        for start in (found.start() for found in self._starts.finditer(text)):
            length = next((n for n in self._lengths if text[start : start + n] in self._names), 0)
            if length and start >= end:
                end = start + length
                yield start, end

    def _replaced(self, text: str, other: Callable[[str], str]) -> str:
        parts, done = [], 0
        for start, end in self._places(text):
            parts += [text[done:start], other(text[start:end])]
            done = end
        return "".join([*parts, text[done:]])

    def _varied(self, text: str) -> bool:
        """Whether a control token comes out of a text; only the tokenizer itself knows all spellings of some."""
        if self._backend is None:
            return False
        return self.came_out(self._backend.encode(text, add_special_tokens=False).ids, frame=False)

    def _marked_end(self, text: str) -> str:
        for length in range(min(self._longest, len(text)), 0, -1):
            if text[-length:] in self._beginnings:
                return text[:-length] + _mark(text[-length:])
        return text

    def _marked_start(self, text: str) -> str:
        for length in range(min(self._longest, len(text)), 0, -1):
            if text[:length] in self._endings:
                return _mark(text[:length]) + text[length:]
        return text

    def _copied(self) -> tuple[Tokenizer, dict[int, int]]:
        if self._backend is None:
            raise InputError(
                "a text spells a control token, and the tokenizer of this base cannot read it as text",
                hint="Leave the control token out, or allow control tokens in texts.",
            )
        described = json.loads(self._backend.to_str())
        described["truncation"] = described["padding"] = None
        for token in described["added_tokens"]:
            if token["special"]:
                token["content"], token["normalized"] = self._names[token["content"]], False
        _rename(described["model"], self._names)
        copy = Tokenizer.from_str(json.dumps(described))
        ids = {copy.token_to_id(token["content"]): int(token["id"]) for token in described["added_tokens"]}
        return copy, {theirs: ours for theirs, ours in ids.items() if theirs is not None and theirs != ours}


def unmarked(text: str) -> str:
    """A text with marks, with what they stand for."""
    return _MARK.sub(lambda found: bytes.fromhex(found[1]).decode(), text)


def has_marks(text: str) -> bool:
    """Whether a text has marks."""
    return _MARK.search(text) is not None


def _mark(text: str) -> str:
    return f"\ue002{_SECRET}:{text.encode().hex()}\ue003"


def _rename(model: dict[str, Any], names: Mapping[str, str]) -> None:
    """Renames control tokens in a vocabulary, so that a text's own pieces never make one."""
    vocabulary = model.get("vocab")
    if isinstance(vocabulary, dict):
        model["vocab"] = {names.get(piece, piece): index for piece, index in vocabulary.items()}
    elif isinstance(vocabulary, list):
        model["vocab"] = [[names.get(piece, piece), score] for piece, score in vocabulary]
    if model.get("unk_token") in names:
        model["unk_token"] = names[model["unk_token"]]
    if "merges" in model:
        pairs = (merge.split(" ", 1) if isinstance(merge, str) else merge for merge in model["merges"])
        model["merges"] = [[a, b] for a, b in pairs if not (a in names or b in names or a + b in names)]
