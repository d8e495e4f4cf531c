"""Bases that were saved quantized load as they are, and nothing is passed over that contradicts them."""

import json
from collections.abc import Callable
from copy import deepcopy
from importlib import util
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from steerzo_edge.data.batches import batch_rows
from steerzo_edge.errors import BaseModelError
from steerzo_edge.model import quantization
from steerzo_edge.model.load import load_base
from steerzo_edge.model.quantization import Quantization, released_as
from steerzo_edge.zo.oracle import Round
from tests.conftest import byte_tokenizer
from tests.contracts.test_same_losses import PROBES, SAVINGS, SUBSETS, built, compare
from tests.families import FAMILIES, saved
from tests.plain import plain_losses

KINDS: dict[Quantization, dict[str, Any]] = {
    "nf4": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True},
    "fp4": {"load_in_4bit": True, "bnb_4bit_quant_type": "fp4"},
    "int8": {"load_in_8bit": True},
}


@pytest.fixture(scope="module")
def quantized(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A base that was quantized and saved with `transformers` alone."""
    plain = saved(deepcopy(FAMILIES["llama"]), tmp_path_factory.mktemp("plain"))
    made: dict[str, Path] = {"none": plain}

    def save(kind: Quantization) -> Path:
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp(kind)
            model = AutoModelForCausalLM.from_pretrained(
                plain, quantization_config=BitsAndBytesConfig(**KINDS[kind]), dtype=torch.float32, device_map="cpu"
            )
            model.save_pretrained(made[kind])
            byte_tokenizer().save_pretrained(made[kind])
        return made[kind]

    return save


def loaded(path: Path, kind: Quantization) -> Any:
    return load_base(str(path), quantization=kind, compute_dtype=torch.float32, device="cpu")


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_base_is_what_it_was(quantized: Callable[..., Path], tmp_path: Path, kind: Quantization) -> None:
    from_file, from_plain = loaded(quantized(kind), kind), loaded(quantized("none"), kind)
    for name, layer in from_plain.bank.layers.items():
        other = from_file.bank.layers[name]
        assert torch.equal(layer.weight_like_base(torch.float32), other.weight_like_base(torch.float32)), name
    compare(from_file, *built(from_file, "phrases", SUBSETS["all-layers"], SAVINGS["stacked"], tmp_path), range(1))


@pytest.mark.parametrize(("kind", "asked"), [("nf4", "int8"), ("int8", "nf4"), ("fp4", "nf4"), ("nf4", "none")])
def test_settings_that_contradict_the_files(
    quantized: Callable[..., Path], kind: Quantization, asked: Quantization
) -> None:
    with pytest.raises(BaseModelError, match=f"released in {kind}, and the settings ask for {asked}") as refusal:
        loaded(quantized(kind), asked)
    assert f"Set quantization to {kind}" in refusal.value.hint


def test_a_plain_base_is_not_made_gptq(quantized: Callable[..., Path]) -> None:
    with pytest.raises(BaseModelError, match="not released in GPTQ"):
        loaded(quantized("none"), "gptq")


@pytest.mark.parametrize("method", ["awq", "fp8", "mxfp4", "compressed-tensors"])
def test_other_quantizations_are_named(method: str) -> None:
    with pytest.raises(BaseModelError, match=method):
        released_as({"quantization_config": {"quant_method": method, "bits": 4}}, "x/y")


def packed(codes: Tensor) -> Tensor:
    """(8 n, ...) numbers of 4 bits to (n, ...) int32, the first in the lowest bits."""
    found = torch.zeros(len(codes) // 8, *codes.shape[1:], dtype=torch.int64)
    for place in range(8):
        found |= codes[place::8].to(torch.int64) << (4 * place)
    return torch.where(found >= 2**31, found - 2**32, found).to(torch.int32)


def gptq(plain: Path, path: Path, group: int = 32) -> dict[str, Tensor]:
    """Writes a base in GPTQ's format, rounded to the nearest; returns the weights it stands for."""
    path.mkdir()
    tensors, meant = {}, {}
    for key, weight in load_file(plain / "model.safetensors").items():
        if weight.ndim != 2 or ".layers." not in key:
            tensors[key] = weight
            continue
        name, outputs = key.removesuffix(".weight"), len(weight)
        groups = weight.view(outputs, -1, group)
        low, high = groups.amin(-1).clamp(max=0), groups.amax(-1).clamp(min=0)
        scale = ((high - low) / 15).half().float()
        zero = torch.round(-low / scale)
        codes = (torch.round(groups / scale[..., None]) + zero[..., None]).clamp(0, 15)
        meant[name] = ((codes - zero[..., None]) * scale[..., None]).view(outputs, -1)
        tensors[f"{name}.qweight"] = packed(codes.view(outputs, -1).T.contiguous())
        # The format's first version keeps zeros less one.
        tensors[f"{name}.qzeros"] = packed((zero.to(torch.int64) - 1) & 15).T.contiguous()
        tensors[f"{name}.scales"] = scale.T.contiguous().half()
        tensors[f"{name}.g_idx"] = (torch.arange(weight.shape[1]) // group).to(torch.int32)
    save_file(tensors, path / "model.safetensors", {"format": "pt"})
    settings = json.loads((plain / "config.json").read_text())
    told = {"quant_method": "gptq", "bits": 4, "group_size": group, "desc_act": False, "sym": False}
    (path / "config.json").write_text(json.dumps({**settings, "dtype": "float16", "quantization_config": told}))
    byte_tokenizer().save_pretrained(path)
    return meant


def test_without_its_package_a_gptq_base_says_how_to_get_it(
    quantized: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gptq(quantized("none"), tmp_path / "gptq")
    found = util.find_spec
    monkeypatch.setattr(quantization, "find_spec", lambda name: None if name == "gptqmodel" else found(name))
    with pytest.raises(BaseModelError, match="gptqmodel is not installed") as refusal:
        loaded(tmp_path / "gptq", "gptq")
    assert refusal.value.hint == 'pip install "steerzo-edge[gptq]"'
    with pytest.raises(BaseModelError, match="released in gptq, and the settings ask for nf4"):
        loaded(tmp_path / "gptq", "nf4")


@pytest.mark.skipif(util.find_spec("gptqmodel") is None, reason="gptqmodel is not installed")
@pytest.mark.filterwarnings("ignore")
def test_a_gptq_base(quantized: Callable[..., Path], tmp_path: Path) -> None:
    """Its weights, losses and adapters; the kernels round to bf16 or float16, so tolerances are theirs."""
    meant = gptq(quantized("none"), tmp_path / "gptq")
    base = loaded(tmp_path / "gptq", "gptq")
    assert set(base.bank.layers) == set(meant)
    for name, layer in base.bank.layers.items():
        found = layer.weight_like_base(torch.float32)
        assert float((found - meant[name]).abs().max()) < 2**-6 * float(meant[name].abs().max()), name
    for number, subset in enumerate(("all-layers", "lora-xs-blocks-of-the-top", "whole-top-layer", "top-layer")):
        parts, data = built(base, "phrases", SUBSETS[subset], SAVINGS["stacked"], tmp_path / str(number))
        indices, block = batch_rows(5, 0, len(data.rows), 5), parts.blocks.of(0)
        expected = torch.tensor(plain_losses(base, parts, data, indices, PROBES, block))
        found = torch.tensor(parts.oracle.evaluate(Round(0, block.index, tuple(PROBES))))
        # Products of other shapes round to 16 bits elsewhere; probes differ by about 1e-2.
        torch.testing.assert_close(found, expected, rtol=0, atol=2e-3)
