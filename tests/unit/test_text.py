"""Text from a tail of the tokens is the text of all of them, and tokens are spelled by their bytes."""

from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from steerzo_edge.decoding.spelling import Spelling
from steerzo_edge.decoding.text import LONGEST, Text
from steerzo_edge.model.load import load_tokenizer
from tests.conftest import byte_tokenizer

SENTENCEPIECE = Path(__file__).parents[3] / "shared" / "models" / "stories3M"
KINDS = ["bundled", "bytes", "sentencepiece"]
WORDS = [
    "the cat ",
    "naïve ",
    "\U0001f469\u200d\U0001f680",
    "日本語",
    "  \n\n",
    "é",
    "👍🏽",
    "x",
    ", and. ",
    "ﷺ",
    "\t",
    "e\u0301",
]


@cache
def tokenizer_of(kind: str) -> PreTrainedTokenizerBase:
    if kind == "bytes":
        return byte_tokenizer()
    if kind == "bundled":
        return load_tokenizer()
    if not SENTENCEPIECE.exists():
        pytest.skip("there is no such tokenizer here")
    found: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(SENTENCEPIECE)
    return found


def in_pieces(tokenizer: PreTrainedTokenizerBase, tokens: list[int]) -> list[str]:
    text = Text(tokenizer)
    return [*(text.put(token) for token in tokens), text.end()]


def whole(tokenizer: PreTrainedTokenizerBase, tokens: list[int]) -> str:
    return str(tokenizer.decode(tokens, skip_special_tokens=True))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(st.sampled_from(WORDS), st.text(max_size=8)), max_size=60).map("".join))
def test_pieces_concatenate_to_the_text(kind: str, text: str) -> None:
    tokenizer = tokenizer_of(kind)
    tokens = list(tokenizer(text, add_special_tokens=False).input_ids)
    pieces = in_pieces(tokenizer, tokens)
    assert "".join(pieces) == whole(tokenizer, tokens)
    # No half of a character is ever shown on the way, unless the text has such a mark itself.
    if "\ufffd" not in whole(tokenizer, tokens):
        assert not any("\ufffd" in piece for piece in pieces)


@pytest.mark.parametrize("kind", ["bundled", "bytes"])
@settings(max_examples=150, deadline=None)
@given(st.data())
def test_decoding_in_pieces_equals_decoding_at_once(kind: str, data: st.DataObject) -> None:
    """Broken characters included: bytes are marked as they are when all is decoded."""
    tokenizer = tokenizer_of(kind)
    tokens = data.draw(st.lists(st.integers(0, len(tokenizer) - 1), max_size=90))
    assert "".join(in_pieces(tokenizer, tokens)) == whole(tokenizer, tokens)


@pytest.mark.parametrize("kind", KINDS)
def test_the_cost_of_a_token_does_not_grow(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = tokenizer_of(kind)
    tokens = list(tokenizer("日本語 the cat, naïve 👍🏽. " * 60, add_special_tokens=False).input_ids)
    decode, sizes = tokenizer.decode, []

    def counted(ids: list[int], **settings: bool) -> object:
        sizes.append(len(ids))
        return decode(ids, **settings)

    monkeypatch.setattr(tokenizer, "decode", counted)
    pieces = in_pieces(tokenizer, tokens)
    monkeypatch.undo()
    assert "".join(pieces) == whole(tokenizer, tokens)
    assert len(tokens) > 500
    assert max(sizes) <= 2 * LONGEST
    assert len(sizes) < 2 * len(tokens)


def test_text_that_was_sent_is_never_changed() -> None:
    """Byte tokens of a SentencePiece that turn out to be no UTF-8 change what stood before them, when decoded."""
    tokenizer = tokenizer_of("sentencepiece")
    euro = [int(tokenizer.convert_tokens_to_ids(f"<0x{byte:02X}>")) for byte in "€".encode()]
    tokens = [*euro, euro[1], *tokenizer("the cat", add_special_tokens=False).input_ids]
    pieces = in_pieces(tokenizer, tokens)
    assert pieces[2] == "€"
    assert whole(tokenizer, tokens)[0] == "\ufffd"
    assert "".join(pieces).endswith("the cat")


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_are_spelled_by_their_bytes(kind: str) -> None:
    tokenizer = tokenizer_of(kind)
    spelling = Spelling(tokenizer)
    for text in ("the cat, naïve.", "日本語 👍🏽", "a  b\n", "ĠĊ▁"):
        tokens = tokenizer(text, add_special_tokens=False).input_ids
        spelled = b"".join(spelling.bytes(token) for token in tokens).decode()
        assert spelled.removeprefix(" ") == text.replace("▁", " ") if kind == "sentencepiece" else spelled == text
    end = tokenizer.eos_token_id
    assert spelling.bytes(end) == str(tokenizer.eos_token).encode()
