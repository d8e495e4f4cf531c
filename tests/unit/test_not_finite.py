"""Adapters of finite weights whose products are not: an error that says so, never an answer."""

from typing import Any

import pytest
import torch

from steerzo_edge.decoding.decoder import Decoder, Request
from steerzo_edge.decoding.generate import Generation, TokenIds, generate
from steerzo_edge.decoding.sampling import Sampling
from steerzo_edge.decoding.scoring import ScoringRequest, scored, shared_rows
from steerzo_edge.errors import NotFiniteError
from steerzo_edge.model.base import Base
from steerzo_edge.model.patches import LoraPatch, Patches
from tests.conftest import Loader

PROMPT = (70, 71, 72)
SAMPLINGS = (
    Sampling(6),
    Sampling(6, temperature=1.0, seed=1),
    Sampling(6, logprobs=2),
    Sampling(6, temperature=1.0, top_k=3, top_p=0.9, min_p=0.1, frequency_penalty=1.0, seed=1),
)


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def base(tiny: Loader, request: pytest.FixtureRequest) -> Base:
    return tiny("none", request.param)


def overflowing(base: Base) -> Patches:
    """Finite in its type, but a product of two of its numbers is not."""
    name = "model.layers.1.mlp.down_proj"
    layer = base.bank.layers[name]
    a = torch.full((1, 2, layer.in_features), 1e30, dtype=base.compute_dtype)
    b = torch.full((1, layer.out_features, 2), 1e30, dtype=base.compute_dtype)
    b[:, ::2] = -1e30
    return {name: LoraPatch(a, b, 1.0)}


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=range(len(SAMPLINGS)))
def test_no_token_is_chosen_from_numbers_that_are_not_finite(base: Base, sampling: Sampling) -> None:
    with pytest.raises(NotFiniteError, match="the adapter's numbers are not finite"):
        generate(base, TokenIds(PROMPT), overflowing(base), sampling)


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=range(len(SAMPLINGS)))
def test_a_row_that_overflows_later_ends_alone(base: Base, sampling: Sampling) -> None:
    """Rows of other requests, also greedy ones in the same forward, keep their answers."""
    decoder = Decoder(base)
    patches = dict(overflowing(base))
    name, patch = next(iter(patches.items()))
    broken = decoder.add(Request(PROMPT, sampling, patches))
    others = [decoder.add(Request(PROMPT, other)) for other in SAMPLINGS]
    patches[name] = LoraPatch(patch.a * 0, patch.b, 1.0)  # type: ignore[attr-defined]
    ended: dict[int, Any] = {}
    for number in range(20):
        if number == 2:
            patches[name] = patch
            decoder._route = None
        for piece in decoder.step():
            if piece.error is not None or piece.made is not None:
                ended[piece.ticket] = piece.error or piece.made
    assert isinstance(ended[broken], NotFiniteError)
    for ticket, other in zip(others, SAMPLINGS, strict=True):
        alone = generate(base, TokenIds(PROMPT), sampling=other)
        assert isinstance(ended[ticket], Generation)
        assert (ended[ticket].text, ended[ticket].finish_reason) == (alone.text, alone.finish_reason)


def test_texts_are_not_scored_with_numbers_that_are_not_finite(base: Base) -> None:
    requests = [ScoringRequest(PROMPT, 1)]
    rows = shared_rows([PROMPT])
    assert scored(base, requests, rows)[0].logprobs
    with pytest.raises(NotFiniteError):
        scored(base, requests, rows, overflowing(base))
