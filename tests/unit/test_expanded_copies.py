"""Copies of 4-bit weights for answers, without a kernel for them: bounded, counted, and the same tokens."""

import gc
from pathlib import Path

import pytest
import torch

from steerzo_edge.decoding.generate import generate
from steerzo_edge.decoding.sampling import Sampling
from steerzo_edge.model import matmul
from steerzo_edge.model.base import Base
from steerzo_edge.model.load import load_base
from steerzo_edge.model.weights import four_bit
from steerzo_edge.model.weights.expanded_copies import ExpandedCopies
from steerzo_edge.model.weights.four_bit import FourBitLinear

PROMPT = "good and warm 3 => "


@pytest.fixture
def base(tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> Base:
    """In nf4, as if the processor had neither the kernel nor instructions for bf16; no other test has used it."""
    monkeypatch.setattr(matmul, "is_native", lambda dtype: dtype == torch.float32)
    monkeypatch.setattr(FourBitLinear, "_repacked", lambda self, x: None)
    return load_base(str(tiny_path), quantization="nf4", device="cpu")


def answer(base: Base) -> str:
    return generate(base, PROMPT, sampling=Sampling(12)).text


def test_they_stay_within_the_bound_and_change_no_token(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    none, some, all_ = (ExpandedCopies(limit) for limit in (0, 70_000, 1 << 30))
    texts = []
    for copies in (none, some, all_):
        monkeypatch.setattr(four_bit, "COPIES", copies)
        texts.append(answer(base))
        assert copies.taken <= copies.limit
        base.bank.forget_packed()
        gc.collect()
        assert copies.taken == 0
    assert len(set(texts)) == 1


def test_every_layer_is_kept_where_there_is_room(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    copies = ExpandedCopies(1 << 30)
    monkeypatch.setattr(four_bit, "COPIES", copies)
    answer(base)
    weights = sum(layer.in_features * layer.out_features for layer in base.bank.layers.values())
    assert copies.taken == 2 * weights
    expanded = []
    monkeypatch.setattr(FourBitLinear, "weight", lambda self, dtype: expanded.append(self))
    layer = next(iter(base.bank.layers.values()))
    layer._frozen.decode_matmul(torch.zeros(1, 1, layer.in_features, dtype=torch.bfloat16))
    assert expanded == []
    base.bank.forget_packed()


def test_a_row_s_bits_do_not_depend_on_the_others(base: Base) -> None:
    layer = next(iter(base.bank.layers.values()))
    rows = torch.randn(9, 1, layer.in_features, generator=torch.Generator().manual_seed(0)).bfloat16()
    whole = layer._frozen.decode_matmul(rows)
    for count in range(1, 9):
        assert torch.equal(layer._frozen.decode_matmul(rows[:count]), whole[:count])
    expected = torch.nn.functional.linear(rows.float(), layer._frozen.weight(torch.float32))
    torch.testing.assert_close(whole.float(), expected, rtol=2**-7, atol=1e-3)
