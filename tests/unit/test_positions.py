"""Bases whose positions are stretched: what a row is told must not depend on how long another is."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, Phi3Config

from steerzo_edge.decoding.decoder import Request
from steerzo_edge.decoding.generate import encode_prompt
from steerzo_edge.decoding.sampling import Sampling
from steerzo_edge.errors import BaseModelError, InputError
from steerzo_edge.model.base import Base
from steerzo_edge.model.load import load_base
from steerzo_edge.model.positions import context_of
from tests.families import ENDS, HEADS, SHAPE, saved
from tests.unit.test_decoding import together

TEXT = "so it was that nobody came to the house."[:40]
LONG = {"rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0] * 8, "long_factor": [4.0] * 8}


def load(path: Path) -> Base:
    return load_base(str(path), quantization="none", compute_dtype=torch.float32, device="cpu")


def longrope(first: int, most: int = 128) -> Phi3Config:
    ropes = {**LONG, "original_max_position_embeddings": first}
    settings: dict[str, Any] = {**SHAPE, **HEADS, **ENDS, "max_position_embeddings": most}
    return Phi3Config(**settings, original_max_position_embeddings=first, rope_parameters=ropes)


def test_longrope_is_used_up_to_its_first_length(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        base = load(saved(longrope(48), tmp_path))
    assert base.context_length == 48
    assert "context is 48 tokens here, not 128" in caplog.text
    with pytest.raises(InputError, match="48"):
        encode_prompt(base, TEXT, 9)
    prompt = encode_prompt(base, TEXT, 8)
    requests = [Request(prompt, Sampling(8)), Request(prompt[:5], Sampling(8)), Request(prompt[:9], Sampling(8))]
    assert together(base, requests) == [together(base, [request])[0] for request in requests]
    # Beyond that length the others' numbers would change, which is why it ends there.
    ids = torch.tensor([prompt[:5]])
    near = torch.arange(5)
    with torch.inference_mode():
        alone = base.model(input_ids=ids, position_ids=near[None]).logits[0]
        for far, alike in ((47, True), (48, False)):
            beside = torch.stack([near, torch.tensor([0, 1, 2, 3, far])])
            found = base.model(input_ids=ids.repeat(2, 1), position_ids=beside).logits[0]
            assert torch.allclose(found, alone, atol=1e-4) == alike


def test_longrope_that_was_not_stretched_keeps_its_context() -> None:
    assert context_of(longrope(128)) == 128
    assert context_of(LlamaConfig(max_position_embeddings=77)) == 77


def test_dynamic_positions_are_refused_in_words(tmp_path: Path) -> None:
    ropes = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10000.0}
    path = saved(LlamaConfig(**SHAPE, **HEADS, **ENDS, rope_parameters=ropes), tmp_path)
    with pytest.raises(BaseModelError, match="rope_type dynamic") as refusal:
        load(path)
    assert "config.json" in refusal.value.hint
