"""Converts a byte-level BPE tokenizer to llama.cpp's format: pieces, merges, and the name of its pre-tokenizer.

A pre-tokenizer cuts a text into words before merges are applied; llama.cpp knows some, by name. `tokenizer.json`
does not contain that name, so it is found by trying them: the same merges after each cut must give the tokenizer's
own ids, for every piece of its vocabulary and for texts that are hard to cut.
"""

import json
from collections.abc import Iterator
from typing import Any, Final

from tokenizers import Tokenizer
from transformers import GenerationConfig, PreTrainedTokenizerBase

from steerzo_edge.errors import BaseModelError
from steerzo_edge.export.shapes import Fact
from steerzo_edge.model.cuts import CUTS, Cut

NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5
_HINT: Final = "Export the merged checkpoint; llama.cpp's own convert_hf_to_gguf.py knows more tokenizers."


HARD: Final = (
    "Hello, world! It's 12:45 and they've 1,234,567.89 reasons; I'd say we'll see.",
    "IT'S DON'T I'LL WE'RE'VE 'Tis 'twas ROCK'N'ROLL o'clock 'STOP' 'RED 'DAY'",
    "a  b   c\td\t\te \n f\n\ng\r\nh\n \n  i   ",
    "    def add(a, b):\n        return a + b  # sum\n\n\n",
    "x=1;y=22;z=333;w=4444;v=55555 0x1F 3.14e-10 №5 ½ ² Ⅻ ١٢٣",
    "Größe, señor, naïve café, œuvre, İstanbul; Привет, мир! Γειά σου",  # noqa: RUF001
    "你好，世界。こんにちは、世界！안녕하세요 세계 नमस्ते दुनिया ไทย עברית العربية",  # noqa: RUF001
    "🙂🙃 👩\u200d👧 🇫🇷 é = é \u00a0nbsp\u2003em\u200bzero",
    "<a href='x'>&amp;</a> {\"k\": [1, 2, {\"q\": null}]} C:\\x\\y /usr/bin --flag=$HOME ``` *** ___ ...!!!???",
    " leading", "trailing ", " ", "\n", "'", "''s", "1", " 1", "  1", "1 ", "s's's", "a1b2c3", "ÀÉ'LL",
)  # fmt: skip


def vocabulary(
    tokenizer: PreTrainedTokenizerBase, size: int, generation: GenerationConfig | None
) -> dict[str, Fact]:
    """The metadata that describes a tokenizer in a GGUF file.

    Args:
        tokenizer: Of the base, as it was released.
        size: V of the embedding, which may have rows without a token.
        generation: Names further tokens that end a text.

    Raises:
        BaseModelError: If it is not a byte-level BPE, or llama.cpp does not know its pre-tokenizer.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise BaseModelError("the tokenizer has no tokenizer.json, which GGUF export needs", hint=_HINT)
    described = json.loads(backend.to_str())
    pieces, kinds = _pieces(described, size)
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in described["model"]["merges"]]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": cut_of(backend),
        "tokenizer.ggml.tokens": pieces,
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.merges": merges or [""],  # the format has no empty lists; this one merges nothing
        **_special(tokenizer, size, generation),
    }


def cut_of(tokenizer: Tokenizer) -> str:
    """llama.cpp's name for a tokenizer's pre-tokenizer.

    Args:
        tokenizer: A byte-level BPE.

    Raises:
        BaseModelError: If it is something else, or no known pre-tokenizer gives its ids.
    """
    described = json.loads(tokenizer.to_str())
    if described["model"]["type"] != "BPE" or "ByteLevel" not in json.dumps(described["pre_tokenizer"]):
        raise BaseModelError("the tokenizer is not a byte-level BPE, which GGUF export needs", hint=_HINT)
    if described["normalizer"] not in (None, {"type": "NFC"}):
        raise BaseModelError("the tokenizer normalizes text in a way that llama.cpp does not support", hint=_HINT)
    for name, cut in CUTS.items():
        other = _with(described, cut)
        if all(_ids(tokenizer, text) == _ids(other, text) for text in _texts(tokenizer)):
            return name
    raise BaseModelError("the tokenizer cuts text in a way that llama.cpp does not know", hint=_HINT)


def _with(described: dict[str, Any], cut: Cut) -> Tokenizer:
    model = {**described["model"], "ignore_merges": cut.whole_words}
    other = Tokenizer.from_str(json.dumps({**described, "model": model}))
    other.pre_tokenizer = cut.pre_tokenizer()
    return other


def _texts(tokenizer: Tokenizer) -> Iterator[str]:
    yield from HARD
    for token in range(tokenizer.get_vocab_size()):
        yield tokenizer.decode([token])


def _ids(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False).ids


def _pieces(described: dict[str, Any], size: int) -> tuple[list[str], list[int]]:
    """Text and kind of every row of the embedding; tokens with an id past its last row are left out."""
    found = {token: (piece, NORMAL) for piece, token in described["model"]["vocab"].items()}
    for added in described["added_tokens"]:
        found[added["id"]] = added["content"], CONTROL if added["special"] else USER_DEFINED
    rows = [found.get(row, (f"[PAD{row}]", UNUSED)) for row in range(size)]
    return [piece for piece, _ in rows], [kind for _, kind in rows]


def _special(tokenizer: PreTrainedTokenizerBase, size: int, generation: GenerationConfig | None) -> dict[str, Fact]:
    named = None if generation is None else generation.eos_token_id
    ends = [tokenizer.eos_token_id, *([named] if isinstance(named, int) else named or [])]
    ends = [end for end in dict.fromkeys(ends) if end is not None and end < size]
    if not ends:
        raise BaseModelError(
            "neither the tokenizer nor generation_config.json names a token that ends a text", hint=_HINT
        )
    coded = tokenizer.encode("x")
    bos, pad = tokenizer.bos_token_id, tokenizer.pad_token_id
    found: dict[str, Fact] = {
        # Written also if the tokenizer has no such token: llama.cpp would assume ids of its own.
        "tokenizer.ggml.bos_token_id": ends[0] if bos is None else bos,
        "tokenizer.ggml.eos_token_id": ends[0],
        "tokenizer.ggml.add_bos_token": len(coded) > 1 and coded[0] == bos,
        "tokenizer.ggml.add_eos_token": len(coded) > 1 and coded[-1] == ends[0],
        "tokenizer.ggml.add_space_prefix": False,
    }
    if pad is not None and pad < size:
        found["tokenizer.ggml.padding_token_id"] = pad
    if len(ends) > 1:
        found["tokenizer.ggml.eot_token_id"] = ends[1]
    if isinstance(tokenizer.chat_template, str):
        found["tokenizer.chat_template"] = tokenizer.chat_template
    return found
