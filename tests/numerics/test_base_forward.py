"""The forward pass of the base: replaced and quantized layers, the head, and rows with adapters of their own."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from steerzo_edge.data.packing import Fork, pack
from steerzo_edge.model.base import Base
from steerzo_edge.model.load import load_base
from steerzo_edge.model.lora import Lora
from steerzo_edge.model.subset import Copies
from steerzo_edge.settings.profile import resolve
from tests.conftest import Loader


@pytest.mark.parametrize("quantization", ["nf4", "fp4", "int8", "none"])
def test_last_layers_start_as_the_base(tiny: Loader, quantization: str) -> None:
    base = tiny(quantization, torch.float32)
    profile = resolve({"subset": {"kind": "last-n-layers", "layers": 2}})
    subset = profile.subset.build(base, 0, pack([Fork((5, 6))]))
    packed = pack([Fork(tuple(range(5, 25))), Fork(tuple(range(9, 17)))])
    with torch.inference_mode():
        bare = base.hidden(packed)
        with base.bank.route(Copies(subset, 1).hold()):
            replaced = base.hidden(packed)
    # 4-bit products on a CPU with AVX512-BF16 round their inputs to bf16; the replacement does not.
    tolerance = 0.05 if quantization in ("nf4", "fp4") else 1e-4
    torch.testing.assert_close(replaced, bare, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("quantization", ["nf4", "fp4", "int8"])
def test_quantized_bases_stay_near_the_original(tiny: Loader, quantization: str) -> None:
    exact, base = tiny("none", torch.float32), tiny(quantization, torch.float32)
    for name, layer in exact.bank.layers.items():
        weight = layer.weight_like_base(torch.float32)
        found = base.bank.layers[name].weight_like_base(torch.float32)
        off = float((found - weight).norm() / weight.norm())
        assert off < {"nf4": 0.12, "fp4": 0.16, "int8": 0.02}[quantization]
        assert off > 0


def test_the_head_agrees_with_a_full_softmax(bundled: Base) -> None:
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(37, bundled.model.config.hidden_size, generator=generator).bfloat16()
    targets = torch.randint(0, bundled.model.config.vocab_size, (37,), generator=generator)
    weight = bundled.model.get_output_embeddings().weight.float()
    expected = (hidden.float() @ weight.T).log_softmax(-1)[torch.arange(37), targets]
    for block_bytes in (64 << 20, 1 << 20, 1 << 14):
        head = type(bundled.head)(bundled.model.get_output_embeddings(), bundled.model.config, block_bytes)
        torch.testing.assert_close(head.log_likelihoods(hidden, targets), expected, rtol=1e-5, atol=1e-4)


def test_rows_of_a_batch_use_their_own_adapters(tiny: Loader) -> None:
    from steerzo_edge.model.routes import rows

    base = tiny("none", torch.float32)
    adapters = [*_adapters(base), None]
    order = [2, 0, 3, 1, 0, 3, 4]
    ids = torch.randint(5, 200, (len(order), 9), generator=torch.Generator().manual_seed(4))
    with torch.inference_mode():
        with base.bank.route(rows([adapters[i] for i in order])):
            mixed = base.model(input_ids=ids).logits
        for row, index in enumerate(order):
            with base.bank.route(adapters[index] or {}):
                alone = base.model(input_ids=ids[row : row + 1]).logits
            torch.testing.assert_close(mixed[row : row + 1], alone, rtol=1e-4, atol=1e-5)


def _adapters(base: Base) -> Iterator[Any]:
    generator = torch.Generator().manual_seed(5)
    names = list(base.bank.layers)
    for rank, chosen in ((2, names), (5, names[::2])):
        layers = {name: base.bank.layers[name] for name in chosen}
        lora = Lora(layers, rank=rank, alpha=3, freeze_a=True, seed=rank, compute_dtype=torch.float32)
        lora.parameters.add_(torch.randn(lora.parameters.shape, generator=generator), alpha=0.1)
        yield Copies(lora, 1).hold()
    core = resolve({"subset": {"kind": "lora-xs", "rank": 3}}).subset.build(base, 0, pack([Fork((5, 6))]))
    core.parameters.add_(torch.randn(core.parameters.shape, generator=generator), alpha=0.3)
    yield Copies(core, 1).hold()
    whole = resolve({"subset": {"kind": "last-n-layers"}}).subset.build(base, 0, pack([Fork((5, 6))]))
    whole.parameters.mul_(0.9)
    yield Copies(whole, 1).hold()


def test_int8_on_the_cpu_says_nothing(
    tiny_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    base = load_base(str(tiny_path), quantization="int8", device="cpu")
    with torch.inference_mode():
        base.hidden(pack([Fork((5, 6, 7))]))
    assert not caplog.records
    assert capfd.readouterr() == ("", "")
