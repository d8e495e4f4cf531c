"""llama.cpp itself reads the exported files and says what transformers says. Skipped where llama_cpp is missing.

`CMAKE_ARGS=-DGGML_NATIVE=OFF pip install llama-cpp-python` builds it.
"""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig

from steerzo_edge.export.gguf_adapter import export_gguf_adapter
from steerzo_edge.export.gguf_model import export_gguf
from steerzo_edge.export.vocabulary import HARD
from steerzo_edge.model.adapter_file import load_adapter
from steerzo_edge.model.base import Base
from steerzo_edge.model.load import load_base
from steerzo_edge.model.merged import load_sixteen_bits
from steerzo_edge.model.patches import Patches
from tests.families import ENDS, HEADS, SHAPE, saved
from tests.peft_directory import lora_files, written
from tests.unit.test_gguf import CONFIGS, WRITTEN

llama_cpp: Any = pytest.importorskip("llama_cpp")
PROMPTS = (
    "Once upon a time", "The king said to his", "play some jazz in the kitchen",
    "What is the weather like in 1984?", "She opened the door and", "Water boils when",
    "<|user|>hello there<|end|><|assistant|>",
    "In the year 1,234 they'd", "The capital of France is", "A little girl named Lily", "I DON'T KNOW", "1 2 3 4",
)  # fmt: skip
SCALED = LlamaConfig(
    **SHAPE, **HEADS, **ENDS,
    rope_parameters={
        "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    },
)  # fmt: skip
FAMILIES = {family: CONFIGS[family] for family in WRITTEN} | {"llama-scaled-positions": SCALED}


def theirs(file: Path, rows: list[list[int]], lora: Path | None = None) -> list[Tensor]:
    """llama.cpp's logits after every token of some rows: (T, V) each."""
    model = llama_cpp.Llama(
        str(file), lora_path=None if lora is None else str(lora), n_ctx=128, n_threads=1, logits_all=True,
        verbose=False,
    )  # fmt: skip
    found = []
    for row in rows:
        model.reset()
        model.eval(row)
        found.append(torch.tensor(model.scores[: len(row)]))
    model.close()
    return found


def ours(base: Base, rows: list[list[int]], patches: Patches) -> list[Tensor]:
    with torch.inference_mode(), base.bank.route(patches):
        return [base.model(input_ids=torch.tensor([row])).logits[0].float() for row in rows]


@pytest.fixture(scope="module")
def bundled_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf")
    base = load_sixteen_bits("bundled")
    adapter = written(path / "adapter", lora_files(base, 4, seed=3))
    export_gguf(adapter, path / "merged.gguf", "bundled")
    export_gguf_adapter(adapter, path / "lora.gguf", "bundled")
    export_gguf(written(path / "none", lora_files(base, 4, lora_alpha=0)), path / "base.gguf", "bundled")
    return path


def test_the_same_token_ids(bundled_files: Path) -> None:
    tokenizer = load_base("bundled", device="cpu").tokenizer
    model = llama_cpp.Llama(str(bundled_files / "base.gguf"), vocab_only=True, verbose=False)
    for text in (*PROMPTS, *HARD):
        assert model.tokenize(text.encode(), add_bos=False, special=True) == tokenizer.encode(text), text
    model.close()


@pytest.mark.parametrize("kind", ["base", "merged", "adapter"])
def test_the_same_next_tokens(bundled_files: Path, kind: str) -> None:
    base = load_base("bundled", quantization="none", compute_dtype=torch.float32, device="cpu")
    adapter = load_adapter(bundled_files / "adapter", base)
    rows = [base.tokenizer.encode(prompt) for prompt in PROMPTS]
    file = bundled_files / ("merged.gguf" if kind == "merged" else "base.gguf")
    found = theirs(file, rows, bundled_files / "lora.gguf" if kind == "adapter" else None)
    expected = ours(base, rows, {} if kind == "base" else adapter)
    bare = ours(base, rows, {})
    for own, other in zip(expected, found, strict=True):
        assert torch.equal(own.argmax(-1), other.argmax(-1))
        # llama.cpp rounds activations to bf16 before each product; logits here reach 12.
        assert float((own - other).abs().max()) < 0.15
    if kind != "base":  # the adapter changes the logits, and llama.cpp applies it
        effects = [float((own - plain).abs().max()) for own, plain in zip(expected, bare, strict=True)]
        assert min(effects) > 0.5
        assert any(
            not torch.equal(own.argmax(-1), plain.argmax(-1)) for own, plain in zip(expected, bare, strict=True)
        )


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_that_is_written(tmp_path: Path, family: str) -> None:
    name = saved(deepcopy(FAMILIES[family]), tmp_path / "base")
    base = load_base(str(name), quantization="none", compute_dtype=torch.float32, device="cpu")
    adapter = written(tmp_path / "adapter", lora_files(base, 4))
    export_gguf(adapter, tmp_path / "merged.gguf", str(name))
    nothing = written(tmp_path / "nothing", lora_files(base, 4, lora_alpha=0))
    export_gguf(nothing, tmp_path / "base.gguf", str(name))
    export_gguf_adapter(adapter, tmp_path / "lora.gguf", str(name))
    rows = [[5 + (7 * place * place + number) % 200 for place in range(40)] for number in range(3)]
    expected, bare = ours(base, rows, load_adapter(adapter, base)), ours(base, rows, {})
    for found in (
        theirs(tmp_path / "merged.gguf", rows),
        theirs(tmp_path / "base.gguf", rows, tmp_path / "lora.gguf"),
    ):
        for own, other, plain in zip(expected, found, bare, strict=True):
            spread = float((own - plain).square().mean().sqrt())
            error = float((own - other).square().mean().sqrt())
            # Weights, and llama.cpp's activations, are rounded to bf16: far less than what the adapter changes.
            assert error < 0.15 * spread, (error, spread)
