"""Merged checkpoints say what base and adapter say; those that do not are not kept."""

import json
from pathlib import Path

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from server.commands.app import app
from steerzo_edge.errors import BaseModelError, ConflictError
from steerzo_edge.model import merged
from steerzo_edge.model.adapter_file import load_adapter
from steerzo_edge.model.bank import BankLinear
from steerzo_edge.model.merged import Agreement, export_merged, load_sixteen_bits
from steerzo_edge.model.patches import Patch
from tests.peft_directory import lora_files, written

ROW = torch.tensor([[5, 70, 9, 33, 101, 8]])


@pytest.fixture
def adapter(tiny_path: Path, tmp_path: Path) -> Path:
    base = load_sixteen_bits(str(tiny_path))
    assert base.compute_dtype == torch.bfloat16
    return written(tmp_path / "adapter", lora_files(base, 4, base_model_name_or_path=str(tiny_path)))


def exported(adapter: Path, out: Path) -> dict[str, float]:
    done = CliRunner().invoke(app, ["export", str(adapter), "--format", "merged", "--out", str(out), "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def test_the_checkpoint_is_what_peft_merges(adapter: Path, tiny_path: Path, tmp_path: Path) -> None:
    told = exported(adapter, tmp_path / "out")
    assert told["error"] <= told["bound"] < told["effect"]
    ours = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert ours.dtype == torch.bfloat16
    plain = AutoModelForCausalLM.from_pretrained(tiny_path, dtype=torch.float32)
    theirs = peft.PeftModel.from_pretrained(plain, adapter).merge_and_unload()
    expected = theirs.state_dict()
    assert set(ours.state_dict()) == set(expected)
    for name, tensor in ours.state_dict().items():
        # Rounded to bf16 twice (the factors, the sum): 2**-8 of a value, and of the factors' products.
        assert torch.allclose(tensor.float(), expected[name], rtol=2**-7, atol=2**-8), name
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    original = AutoTokenizer.from_pretrained(tiny_path)
    assert tokenizer.encode("good and warm") == original.encode("good and warm")
    assert tokenizer.chat_template == original.chat_template
    assert tokenizer.model_max_length == original.model_max_length


def test_the_merged_checkpoint_is_a_base_like_any_other(adapter: Path, tiny_path: Path, tmp_path: Path) -> None:
    exported(adapter, tmp_path / "out")
    whole, base = load_sixteen_bits(str(tmp_path / "out")), load_sixteen_bits(str(tiny_path))
    with torch.inference_mode():
        bare = base.model(ROW).logits
        with base.bank.route(load_adapter(adapter, base)):
            beside = base.model(ROW).logits
        one = whole.model(ROW).logits
    assert (one - beside).abs().max() < 0.2 * (bare - beside).abs().max()


@pytest.mark.parametrize("wrong", ["forgotten", "twice", "turned round"])
def test_a_merge_that_fails_its_check_is_removed(
    adapter: Path, tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    right = merged._merged_weight
    factor = {"forgotten": 0.0, "twice": 2.0, "turned round": -1.0}[wrong]

    def other(name: str, layer: BankLinear, patch: Patch) -> torch.Tensor:
        weight = layer.weight_like_base(torch.float32)
        return weight + factor * (right(name, layer, patch) - weight)

    monkeypatch.setattr(merged, "_merged_weight", other)
    with pytest.raises(ConflictError, match="not kept"):
        export_merged(adapter, tmp_path / "out", str(tiny_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter"]


def test_the_tolerance_of_the_merge_check() -> None:
    assert Agreement(effect=1.0, error=0.09).holds
    assert not Agreement(effect=1.0, error=0.11).holds
    assert Agreement(effect=0.0, error=0.004).holds
    assert not Agreement(effect=0.0, error=0.006).holds
    assert not Agreement(effect=1.0, error=float("nan")).holds


def test_nothing_is_written_over(adapter: Path, tiny_path: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("x")
    with pytest.raises(ConflictError, match="already"):
        export_merged(adapter, tmp_path / "out", str(tiny_path))
    assert (tmp_path / "out" / "mine").read_text() == "x"


def test_a_base_that_was_released_quantized_has_no_sixteen_bits(
    adapter: Path, tiny_path: Path, tmp_path: Path
) -> None:
    quantized = tmp_path / "quantized"
    quantized.mkdir()
    config = json.loads((tiny_path / "config.json").read_text())
    (quantized / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "gptq"}}))
    with pytest.raises(BaseModelError, match="released quantized"):
        export_merged(adapter, tmp_path / "out", str(quantized))


def test_the_bundled_base(tmp_path: Path) -> None:
    base = load_sixteen_bits("bundled")
    directory = written(tmp_path / "adapter", lora_files(base, 2, "q_proj"))
    found = export_merged(directory, tmp_path / "out", "bundled")
    assert found.error < merged.ROUNDING_NATS
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
