"""One new token of each row: the same bits as `transformers` computes, or else `transformers` computes them."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from steerzo_edge.decoding import forward, row_layers
from steerzo_edge.decoding.decoder import Decoder, Request
from steerzo_edge.decoding.forward import CachedForward
from steerzo_edge.decoding.generate import encode_prompt
from steerzo_edge.decoding.row_layers import LAYERS
from steerzo_edge.decoding.sampling import Sampling
from steerzo_edge.model.bank import JoinedLinears
from steerzo_edge.model.base import Base
from steerzo_edge.model.load import load_base
from tests.families import FAMILIES, saved, seeded
from tests.unit.test_decoding import adapters

KNOWN = ["llama", "smollm-shape", "qwen2", "qwen3", "gemma3-window"]
NEW = 14


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    def of(family: str) -> Path:
        path = tmp_path_factory.getbasetemp() / f"rows-{family}"
        if not path.exists():
            saved(FAMILIES[family], path)
        return path

    return of


@pytest.fixture
def fresh() -> Iterator[None]:
    """Every test finds out anew how a base is decoded."""
    forward._SHORTER.clear()
    yield
    forward._SHORTER.clear()


pytestmark = pytest.mark.usefixtures("fresh")


def requests(base: Base, count: int) -> list[Request]:
    kinds = adapters(base)
    return [
        Request(
            encode_prompt(base, f"{number}. The cat sat on the mat, " + "and then it " * (number % 3), NEW),
            Sampling(NEW, temperature=0.8 * (number % 2), seed=number),
            kinds[number % len(kinds)],
        )
        for number in range(count)
    ]


def answered(base: Base, asked: list[Request]) -> tuple[list[str], list[Tensor]]:
    """The answers, and every row of last hidden states or logits that was computed on the way."""
    decoder = Decoder(base)
    seen: list[Tensor] = []
    made: dict[int, str] = {}
    with pytest.MonkeyPatch.context() as patch:
        run = CachedForward._run

        def rows(model: CachedForward, *given: Tensor) -> Tensor:
            shorter = model._shorter(*given)  # type: ignore[arg-type]
            found = run(model, *given) if shorter is None else shorter.logits(shorter.states(*given))  # type: ignore[arg-type]
            seen.append(found.clone())
            return found

        patch.setattr(CachedForward, "rows", rows)
        patch.setattr(CachedForward, "likeliest", lambda model, *given: rows(model, *given).argmax(-1))
        for request in asked:
            decoder.add(request)
        while len(decoder):
            made |= {piece.ticket: piece.made.text for piece in decoder.step() if piece.made is not None}
    return list(made.values()), seen


@pytest.mark.parametrize("count", [1, 6])
@pytest.mark.parametrize(
    ("family", "dtype"), [*((family, torch.float32) for family in KNOWN), ("qwen3", torch.bfloat16)]
)
def test_the_same_bits(paths: Callable[[str], Path], family: str, dtype: torch.dtype, count: int) -> None:
    """Beyond the window of 8 tokens, with and without adapters, sampled and greedy."""
    base = load_base(str(paths(family)), quantization="none", compute_dtype=dtype, device="cpu")
    base.model.generation_config.eos_token_id = -1  # no answer ends early
    assert type(base.model.base_model.layers[0]).__name__ in LAYERS
    asked = requests(base, count)
    forward._SHORTER[base] = None
    expected, by_transformers = answered(base, asked)
    forward._SHORTER.clear()
    found, directly = answered(base, asked)
    assert forward._SHORTER[base] is not None
    assert found == expected
    assert len(directly) == len(by_transformers) == NEW - 1
    assert all(torch.equal(a, b) for a, b in zip(directly, by_transformers, strict=True))


@pytest.mark.parametrize("count", [1, 6])
def test_the_same_bits_in_4_bits(bundled: Base, count: int) -> None:
    asked = requests(bundled, count)
    forward._SHORTER[bundled] = None
    expected, by_transformers = answered(bundled, asked)
    forward._SHORTER.clear()
    found, directly = answered(bundled, asked)
    assert forward._SHORTER[bundled] is not None
    assert found == expected
    assert all(torch.equal(a, b) for a, b in zip(directly, by_transformers, strict=True))


def test_a_layer_that_computes_something_else_is_left_to_transformers(
    paths: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    base = load_base(str(paths("llama")), quantization="none", compute_dtype=torch.float32, device="cpu")
    asked = requests(base, 3)
    expected, _ = answered(base, asked)
    forward._SHORTER.clear()
    exact = row_layers.norm_of

    def other(module: torch.nn.Module) -> Callable[[Tensor], Tensor]:
        norm = exact(module)
        return lambda x: norm(x) * (1 + 2**-20)

    monkeypatch.setattr("steerzo_edge.decoding.row_forward.norm_of", other)
    with caplog.at_level(logging.WARNING):
        found, _ = answered(base, asked)
    assert forward._SHORTER[base] is None
    assert "is decoded by transformers" in caplog.text
    assert found == expected


def test_a_family_that_is_not_known_is_left_to_transformers(paths: Callable[[str], Path]) -> None:
    base = load_base(str(paths("gemma2-window-and-caps")), quantization="none", compute_dtype=torch.float32)
    answered(base, requests(base, 2))
    assert forward._SHORTER[base] is None


@torch.inference_mode()
def test_joined_layers_give_the_bits_of_each(bundled: Base) -> None:
    """In one call of the 4-bit kernel; the copies of single layers, which prompts use, are views of the same."""
    layers = [bundled.bank.layers[f"model.layers.0.self_attn.{name}_proj"] for name in "qkv"]
    for count in (1, 3, 8):
        x = torch.randn(count, 1, layers[0].in_features, generator=seeded(count), dtype=torch.float32).bfloat16()
        apart = torch.cat([layer(x) for layer in layers], -1)
        joined = JoinedLinears(layers, x)
        assert torch.equal(joined(x), apart)
        assert torch.equal(torch.cat([layer(x) for layer in layers], -1), apart)
        bundled.bank.forget_packed()
        assert torch.equal(joined(x), apart)
