"""Adapters as peft makes them: ranks and alphas of single layers, rank-stabilized scales, DoRA.

Logits are compared with peft's own on the same base, in float32.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from steerzo_edge.decoding.decoder import Decoder, Request
from steerzo_edge.decoding.sampling import Sampling
from steerzo_edge.errors import AdapterFileError
from steerzo_edge.model.adapter_check import check_adapter
from steerzo_edge.model.adapter_file import CONFIG, load_adapter
from steerzo_edge.model.base import Base
from steerzo_edge.model.load import load_base
from steerzo_edge.model.merged import merge
from steerzo_edge.model.patches import DoraPatch, LoraPatch, Patches
from steerzo_edge.model.routes import uniform
from steerzo_edge.storage.files import write_json
from tests.conftest import byte_tokenizer

IDS = torch.tensor([[70, 71, 72, 73, 74, 75], [90, 20, 91, 21, 92, 22]])
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "ranks": {"rank_pattern": {"q_proj": 2, "layers.1.mlp.down_proj": 6, "^model.layers.0.self_attn.v_proj": 3}},
    "alphas": {"alpha_pattern": {r"layers\.[01]\..*up_proj": 2.5, "k_proj": 32}},
    "both": {
        "rank_pattern": {"o_proj": 1, "(gate|up|down)_proj": 5},
        "alpha_pattern": {"model.layers.1.self_attn.o_proj": 3, "(gate|up)_proj": 7},
    },
    "stabilized": {"use_rslora": True, "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"q_proj": 3}},
    "dora": {"use_dora": True},
    "dora of all kinds": {
        "use_dora": True,
        "use_rslora": True,
        "rank_pattern": {"q_proj": 2},
        "alpha_pattern": {"mlp.down_proj": 9},
    },
}


@pytest.fixture(scope="module", params=[False, True], ids=["no biases", "biases"])
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base of two layers, with biases or without."""
    directory = tmp_path_factory.mktemp("base")
    tokenizer = byte_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        attention_bias=request.param,
        mlp_bias=request.param,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    drawn(model, 0, 0.2)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def base(path: Path) -> Base:
    return load_base(str(path), quantization="none", compute_dtype=torch.float32, device="cpu")


def drawn(model: torch.nn.Module, seed: int, size: float, part: str = "") -> None:
    """Random numbers for parameters with a part of a name; magnitudes stay positive."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if part in name and "norm" not in name:
                values = torch.randn(tensor.shape, generator=generator, dtype=torch.float32) * size
                tensor.copy_(tensor * (1 + values).abs() if "magnitude" in name else values)


def of_peft(path: Path, out: Path, changes: dict[str, Any], seed: int = 1) -> torch.Tensor:
    """Writes an adapter as peft does; returns the logits that peft computes with the written file."""
    config = LoraConfig(
        r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM", lora_dropout=0.1, **changes
    )
    model = get_peft_model(LlamaForCausalLM.from_pretrained(path, dtype=torch.float32), config)
    drawn(model, seed, 0.3, "lora_")
    model.save_pretrained(out)
    loaded = PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(path, dtype=torch.float32), str(out)).eval()
    with torch.inference_mode():
        logits: torch.Tensor = loaded(input_ids=IDS).logits
    return logits


def logits_of(base: Base, adapter: Patches | None) -> torch.Tensor:
    with torch.inference_mode(), base.bank.route(uniform(adapter)):
        logits: torch.Tensor = base.model(input_ids=IDS).logits
    return logits


def shapes_of(base: Base) -> dict[str, tuple[int, int]]:
    return {name: (layer.in_features, layer.out_features) for name, layer in base.bank.layers.items()}


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_logits_are_pefts(path: Path, base: Base, tmp_path: Path, variant: str) -> None:
    expected = of_peft(path, tmp_path, VARIANTS[variant])
    assert (expected - logits_of(base, None)).abs().max() > 0.1
    torch.testing.assert_close(logits_of(base, load_adapter(tmp_path, base)), expected, atol=1e-5, rtol=1e-5)
    # What is stored of an upload means the same, to this engine and to peft.
    write_json(
        tmp_path / CONFIG, {**check_adapter(tmp_path, shapes_of(base)), "base_model_name_or_path": str(path)}
    )
    torch.testing.assert_close(logits_of(base, load_adapter(tmp_path, base)), expected, atol=1e-5, rtol=1e-5)
    loaded = PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(path, dtype=torch.float32), str(tmp_path))
    with torch.inference_mode():
        torch.testing.assert_close(loaded.eval()(input_ids=IDS).logits, expected, atol=1e-5, rtol=1e-5)


def test_patterns_and_magnitudes_are_found_in_the_patches(path: Path, base: Base, tmp_path: Path) -> None:
    """Guards the test above against variants that mean the same."""
    of_peft(path, tmp_path / "both", VARIANTS["both"])
    patches = load_adapter(tmp_path / "both", base)
    found = {
        name: (patch.a.shape[1], patch.scale) for name, patch in patches.items() if isinstance(patch, LoraPatch)
    }
    layers = ("1.self_attn.o_proj", "0.self_attn.o_proj", "0.mlp.gate_proj")
    assert [found[f"model.layers.{layer}"] for layer in layers] == [(1, 3), (1, 8), (5, 7 / 5)]
    of_peft(path, tmp_path / "dora", VARIANTS["dora"])
    assert all(isinstance(patch, DoraPatch) for patch in load_adapter(tmp_path / "dora", base).values())


def test_rows_of_a_batch_have_their_own_kind_of_adapter(path: Path, base: Base, tmp_path: Path) -> None:
    adapters: list[Patches | None] = [None]
    for number, variant in enumerate(("dora", "both", "dora of all kinds", "plain")):
        of_peft(path, tmp_path / str(number), VARIANTS[variant], seed=number + 1)
        adapters.append(load_adapter(tmp_path / str(number), base))
    requests = [Request((70, 71, 72), Sampling(8), adapter) for adapter in adapters]

    def answered(chosen: list[Request]) -> list[list[int]]:
        decoder = Decoder(base)
        tickets = [decoder.add(one) for one in chosen]
        kept = {row.ticket: row for row in decoder._active()}
        while len(decoder):
            decoder.step()
        return [kept[ticket].answer.tokens for ticket in tickets]

    together = answered(requests)
    assert together == [answered([one])[0] for one in requests]
    assert len({tuple(tokens) for tokens in together}) == len(adapters)


@pytest.mark.parametrize("variant", ["both", "dora"])
def test_a_merged_model_is_base_and_adapter(path: Path, tmp_path: Path, variant: str) -> None:
    expected = of_peft(path, tmp_path, VARIANTS[variant])
    own = load_base(str(path), quantization="none", compute_dtype=torch.float32, device="cpu")
    assert merge(own, load_adapter(tmp_path, own), prompts=("good", "bad")).holds
    with torch.inference_mode():
        torch.testing.assert_close(own.model(input_ids=IDS).logits, expected, atol=1e-4, rtol=1e-4)


def test_a_lora_ga_start_is_refused(path: Path, base: Base, tmp_path: Path) -> None:
    """Its file does not have what the start subtracted from the base."""
    of_peft(path, tmp_path, {})
    config = tmp_path / CONFIG
    config.write_text(config.read_text().replace('"init_lora_weights": true', '"init_lora_weights": "lora_ga"'))
    assert "lora_ga" in config.read_text()
    with pytest.raises(AdapterFileError, match="init_lora_weights"):
        check_adapter(tmp_path, shapes_of(base))
    with pytest.raises(AdapterFileError, match="init_lora_weights"):
        load_adapter(tmp_path, base)
