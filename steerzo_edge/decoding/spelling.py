"""The bytes that a token stands for; its text is not enough, since a token may be a part of a character."""

import builtins
import json
from collections.abc import Iterator
from functools import cache
from typing import Any

from transformers import PreTrainedTokenizerBase


class Spelling:
    """Spells the tokens of one tokenizer, by the rules of its decoder.

    Args:
        tokenizer: Of the base.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        decoder = getattr(getattr(tokenizer, "backend_tokenizer", None), "decoder", None)
        parts = list(_parts(json.loads(decoder.__getstate__()))) if decoder is not None else []
        kinds = {part["type"] for part in parts}
        self._bytes_as_letters = "ByteLevel" in kinds
        self._bytes_as_tokens = "ByteFallback" in kinds
        self._spaces = {part["replacement"]: " " for part in parts if part["type"] == "Metaspace"}
        for part in parts:
            if part["type"] == "Replace" and "String" in part["pattern"]:
                self._spaces[part["pattern"]["String"]] = part["content"]
        self._special = set(tokenizer.all_special_ids)
        self._spelled: dict[int, builtins.bytes] = {}

    def bytes(self, token: int) -> bytes:
        """The bytes of a token; a special token is spelled by its name."""
        if token not in self._spelled:
            self._spelled[token] = self._found(token)
        return self._spelled[token]

    def _found(self, token: int) -> builtins.bytes:
        piece = str(self._tokenizer.convert_ids_to_tokens(token))
        if token in self._special:
            return piece.encode()
        if self._bytes_as_letters and all(letter in _letters() for letter in piece):
            return builtins.bytes(_letters()[letter] for letter in piece)
        if self._bytes_as_tokens and len(piece) == 6 and piece.startswith("<0x"):
            return builtins.bytes.fromhex(piece[3:5])
        if not self._spaces:
            return str(self._tokenizer.decode([token], clean_up_tokenization_spaces=False)).encode()
        for mark, content in self._spaces.items():
            piece = piece.replace(mark, content)
        return piece.encode()


def _parts(decoder: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield decoder
    for part in decoder.get("decoders", ()):
        yield from _parts(part)


@cache
def _letters() -> dict[str, int]:
    """The byte of each letter in byte-level vocabularies: visible bytes are their own, others follow from 256."""
    own = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in own]
    return {chr(byte): byte for byte in own} | {chr(256 + place): byte for place, byte in enumerate(others)}
