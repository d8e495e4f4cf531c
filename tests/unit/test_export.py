"""The command and what its forms promise: old versions of peft and transformers know every word."""

import json
from copy import deepcopy
from pathlib import Path

import peft
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, LlamaConfig
from typer.testing import CliRunner

from server.commands.app import app
from steerzo_edge.export.peft_directory import OLDEST, export_peft
from steerzo_edge.model.adapter_file import load_adapter, save_adapter
from steerzo_edge.model.load import load_base
from steerzo_edge.model.lora import Lora
from steerzo_edge.model.merged import export_merged, load_sixteen_bits
from tests.families import ENDS, FAMILIES, HEADS, SHAPE, saved
from tests.peft_directory import lora_files, written

# The fields of LoraConfig in peft 0.5.0, as its wheel on PyPI has them.
KNOWN = {
    "peft_type", "auto_mapping", "base_model_name_or_path", "revision", "task_type", "inference_mode", "r",
    "target_modules", "lora_alpha", "lora_dropout", "fan_in_fan_out", "bias", "modules_to_save",
    "init_lora_weights", "layers_to_transform", "layers_pattern",
}  # fmt: skip


def keys(directory: Path) -> set[str]:
    return set(json.loads((directory / "adapter_config.json").read_text()))


def test_every_key_is_one_that_old_versions_know(tiny_path: Path, tmp_path: Path) -> None:
    assert OLDEST == "0.5.0"
    base = load_sixteen_bits(str(tiny_path))
    lora = Lora(base.bank.layers, rank=2, alpha=4, freeze_a=True, seed=0, compute_dtype=torch.bfloat16)
    save_adapter(tmp_path / "own", lora, base)
    assert keys(tmp_path / "own") <= KNOWN
    plain = AutoModelForCausalLM.from_pretrained(tiny_path)
    peft.get_peft_model(plain, peft.LoraConfig(r=2, target_modules="all-linear")).save_pretrained(tmp_path / "new")
    assert not keys(tmp_path / "new") <= KNOWN
    export_peft(tmp_path / "new", tmp_path / "out", str(tiny_path))
    assert keys(tmp_path / "out") <= KNOWN


@pytest.mark.parametrize("family", ["llama", "gpt2-learned-positions"])
def test_an_exported_peft_adapter_answers_the_same(tmp_path: Path, family: str) -> None:
    name = saved(deepcopy(FAMILIES[family]), tmp_path / "base")
    adapter = written(tmp_path / "adapter", lora_files(load_sixteen_bits(str(name)), 4, use_rslora=True))
    done = CliRunner().invoke(
        app, ["export", str(adapter), "--format", "peft", "--base", str(name), "--out", str(tmp_path / "out")]
    )
    assert done.exit_code == 0, done.output
    row = torch.tensor([[5, 9, 44, 100]])
    base = load_base(str(name), quantization="none", compute_dtype=torch.float32, device="cpu")
    plain = AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32)
    theirs = peft.PeftModel.from_pretrained(plain, tmp_path / "out").eval()
    with torch.inference_mode(), base.bank.route(load_adapter(adapter, base)):
        ours = base.model(row).logits
    with torch.inference_mode():
        # The same float32 products in another order.
        torch.testing.assert_close(theirs(row).logits, ours, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("form", ["gguf", "gguf-lora"])
def test_the_command_writes_gguf(tiny_path: Path, tmp_path: Path, form: str) -> None:
    files = lora_files(load_sixteen_bits(str(tiny_path)), 4, base_model_name_or_path=str(tiny_path))
    adapter = written(tmp_path / "adapter", files)
    asked = ["export", str(adapter), "--format", form, "--out", str(tmp_path / "x.gguf"), "--json"]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["format"] == form
    assert ("error" in told) == (form == "gguf")
    assert (tmp_path / "x.gguf").read_bytes()[:4] == b"GGUF"
    again = CliRunner().invoke(app, asked)
    assert again.exit_code != 0
    assert "already" in again.output


def test_an_unknown_export_format_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["export", str(tmp_path), "--format", "onnx", "--out", str(tmp_path / "x")])
    assert done.exit_code != 0
    assert "peft, merged, gguf, gguf-lora" in done.output


def test_a_checkpoint_has_its_rope_settings_in_the_older_form_too(tmp_path: Path) -> None:
    positions = {
        "rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }  # fmt: skip
    name = saved(LlamaConfig(**SHAPE, **HEADS, **ENDS, rope_parameters=dict(positions)), tmp_path / "base")
    adapter = written(tmp_path / "adapter", lora_files(load_sixteen_bits(str(name)), 4))
    export_merged(adapter, tmp_path / "out", str(name))
    settings = json.loads((tmp_path / "out" / "config.json").read_text())
    assert settings["rope_theta"] == 5e5
    assert settings["rope_scaling"] == {key: value for key, value in positions.items() if key != "rope_theta"}
    assert AutoConfig.from_pretrained(tmp_path / "out").rope_parameters == positions
    told = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
    assert told["tokenizer_class"] == "PreTrainedTokenizerFast"
    ours, theirs = AutoTokenizer.from_pretrained(tmp_path / "out"), AutoTokenizer.from_pretrained(name)
    assert ours.all_special_tokens == theirs.all_special_tokens
    assert ours.encode("<|user|>a b") == theirs.encode("<|user|>a b")
