"""Bits per byte: the same for any tokenizer and any window, and those of one forward over the whole text."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.conftest import byte_tokenizer
from tests.unit.pretraining.small import VOCABULARY, tale
from tools.pretrain_base.bits import score, windows
from tools.pretrain_base.shape import Shape, random_model
from tools.pretrain_base.tokenizer import SPECIAL, train_tokenizer, wrapped
from tools.pretrain_base.tokens import load_prepared_tokenizer

# Bits per byte


class Uniform:
    """A model that gives every token the same score."""

    device = torch.device("cpu")

    def __init__(self, vocabulary: int) -> None:
        self.vocabulary = vocabulary

    def __call__(self, input_ids: torch.Tensor, use_cache: bool) -> SimpleNamespace:
        return SimpleNamespace(logits=torch.zeros(*input_ids.shape, self.vocabulary))


class EveryByte(Uniform):
    """Gives a piece of n bytes a probability of 2**-(9 n), whatever it is; special tokens share what is left."""

    def __init__(self, tokenizer: Any) -> None:
        super().__init__(len(tokenizer))
        pieces = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
        chances = torch.tensor([0.0 if piece in SPECIAL else 2.0 ** (-9 * len(piece)) for piece in pieces])
        chances[chances == 0] = (1 - chances.sum()) / len(SPECIAL)
        self.scores = chances.log()

    def __call__(self, input_ids: torch.Tensor, use_cache: bool) -> SimpleNamespace:
        return SimpleNamespace(logits=self.scores.expand(*input_ids.shape, -1))


TEXTS = ["Tale 7 and “naïve” bread.\n\nNobody else had it.", "x" * 200, "On shelf 3."]


@pytest.mark.parametrize("context", [2, 7, 64])
def test_a_uniform_model_needs_log2_of_its_vocabulary(context: int) -> None:
    tokenizer = byte_tokenizer()
    found = score(Uniform(len(tokenizer)), tokenizer, TEXTS, context=context, batch=3)
    assert found.tokens == found.bytes == sum(len(text.encode()) for text in TEXTS)
    assert found.bits_per_byte == pytest.approx(math.log2(len(tokenizer)))
    assert (found.documents, found.exact) == (3, 3)


def test_a_model_of_bytes_is_scored_alike_through_any_tokenizer(prepared: Path) -> None:
    pieces = load_prepared_tokenizer(prepared, 512)
    found = []
    for tokenizer in (pieces, wrapped(train_tokenizer([], 262), 512)):
        model = EveryByte(tokenizer)
        assert float(model.scores.exp().sum()) == pytest.approx(1.0)
        found.append(score(model, tokenizer, TEXTS, context=16))
    assert found[0].tokens < found[1].tokens == found[1].bytes
    assert [one.bits_per_byte for one in found] == pytest.approx([9.0, 9.0])


def test_windows_score_every_token_once_with_half_a_window_before_it() -> None:
    ids = list(range(100))
    for context in (2, 3, 8, 64, 100, 200):
        scored = []
        for index, (window, last) in enumerate(windows(ids, context)):
            assert len(window) <= context
            assert window == ids[window[0] : window[-1] + 1]
            assert index == 0 or len(window) - last >= context // 2
            scored += window[-last:]
        assert scored == ids[1:]


def test_bits_are_those_of_one_forward_over_the_whole_text(prepared: Path) -> None:
    tokenizer = load_prepared_tokenizer(prepared, 512)
    model = random_model(Shape(VOCABULARY, 64, 1), 512, 3)
    text = tale(1)
    ids = torch.tensor([[0, *tokenizer.encode(text)]])
    with torch.no_grad():
        expected = float(model(input_ids=ids, labels=ids).loss) * (ids.shape[1] - 1)
    found = score(model, tokenizer, [text, "more"], context=512)
    assert found.nats - score(model, tokenizer, ["more"], context=512).nats == pytest.approx(expected, rel=1e-5)
