"""Every saving gives the losses of the plain way: padded rows, one sequence per option, one probe at a time."""

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    Phi3Config,
    PhiConfig,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from steerzo_edge.assemble import Data, assemble, tokenized
from steerzo_edge.data.batches import batch_rows
from steerzo_edge.data.tokenization import Tokenized
from steerzo_edge.model.base import Base
from steerzo_edge.model.load import load_base
from steerzo_edge.parts import Parts
from steerzo_edge.profile import resolve
from steerzo_edge.zo.direction import Direction
from steerzo_edge.zo.strategy import Probe
from tests.conftest import DATASETS, Loader, byte_tokenizer
from tests.plain import plain_losses

PROBES = [Probe(Direction.seeded(seed), 0.05 * (-1) ** seed) for seed in range(5)]
SUBSETS: dict[str, dict[str, Any]] = {
    "all-layers": {"kind": "lora", "rank": 4},
    "both-factors": {"kind": "lora", "rank": 2, "freeze_a": False, "targets": "all-linear"},
    "top-layer": {"kind": "lora", "rank": 4, "last_layers": 1},
    "inputs": {"kind": "lora", "rank": 3, "a": "inputs"},
    "core": {"kind": "core", "rank": 6},
    "core-blocks-of-the-top": {"kind": "core", "rank": 4, "last_layers": 2, "block_layers": 1},
    "whole-top-layer": {"kind": "last-n-layers", "layers": 1},
    "blocks": {"kind": "lora", "rank": 4, "block_layers": 1},
    "blocks-of-the-top": {"kind": "lora", "rank": 4, "last_layers": 2, "block_layers": 1, "block_order": "random"},
}
SAVINGS: dict[str, dict[str, Any]] = {
    "sequential": {"probes_per_forward": 1},
    "stacked": {"probes_per_forward": 8},
    "stacked-in-chunks": {"probes_per_forward": 2},
    "prefix-on-disk": {"probes_per_forward": 8, "prefix_memory_mib": 0},
    "prefix-once-a-batch": {"probes_per_forward": 8, "prefix_memory_mib": 0, "prefix_disk_mib": 0},
}
# Float32 sums in another order: other shapes of products, and softmax over other lengths. Probes differ by
# about 1e-2 here, so that a probe on the wrong rows or layers stands out by a factor of a thousand.
TOLERANCE = {"rtol": 2e-5, "atol": 2e-5}
Built = tuple[Parts, Tokenized]


def built(
    base: Base, rows: str, subset: dict[str, Any], batch: dict[str, Any], scratch: Path, option_mass: float = 0.0
) -> Built:
    profile = resolve(
        {
            "subset": subset,
            "method": {"kind": "all-losses", "pool": 8, "epsilon": 0.05},
            "rule": {"kind": "sgd", "learning_rate": 0.05},
            "objective": {"option_mass": option_mass},
            "batch": {"examples": 5, "max_tokens": 64, **batch},
        }
    )
    data = tokenized(base.tokenizer, base.context_length, profile, DATASETS[rows](), None, seed=5).train
    return assemble(base, profile, Data(data, None), seed=5, scratch=scratch), data


def compare(base: Base, parts: Parts, data: Tokenized, steps: range = range(3), option_mass: float = 0.0) -> None:
    for step in steps:
        block = parts.blocks.of(step)
        indices = batch_rows(5, step, len(data.rows), 5)
        expected = torch.tensor(plain_losses(base, parts, data, indices, PROBES, block, option_mass))
        assert len(set(expected.tolist())) == len(PROBES)
        found = torch.tensor(parts.oracle.evaluate(PROBES, parts.batches(step), block))
        torch.testing.assert_close(found, expected, **TOLERANCE)
        parts.subset.parameters.add_(0.02 * torch.randn(parts.subset.parameters.shape, generator=seeded(step)))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("quantization", ["nf4", "int8", "none"])
@pytest.mark.parametrize("rows", DATASETS)
@pytest.mark.parametrize(("subset", "saving"), list(product(SUBSETS, SAVINGS)), ids=lambda value: value)
def test_the_losses_are_those_of_the_plain_way(
    tiny: Loader, tmp_path: Path, subset: str, saving: str, rows: str, quantization: str
) -> None:
    base = tiny(quantization, torch.float32)
    compare(base, *built(base, rows, SUBSETS[subset], SAVINGS[saving], tmp_path))


@pytest.mark.parametrize("option_mass", [0.1, 1.0])
@pytest.mark.parametrize("rows", DATASETS)
def test_the_options_common_probability(tiny: Loader, tmp_path: Path, rows: str, option_mass: float) -> None:
    base = tiny("none", torch.float32)
    parts, data = built(base, rows, SUBSETS["top-layer"], SAVINGS["stacked"], tmp_path, option_mass)
    compare(base, parts, data, option_mass=option_mass)


@pytest.mark.parametrize("rows", DATASETS)
@pytest.mark.parametrize(("queries", "score_bytes", "group_cost"), [(7, 1, 0), (16, 4000, 10**9), (1, 1 << 20, 50)])
def test_however_attention_is_cut(
    tiny: Loader,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rows: str,
    queries: int,
    score_bytes: int,
    group_cost: int,
) -> None:
    monkeypatch.setattr("steerzo_edge.model.attention.QUERIES", queries)
    monkeypatch.setattr("steerzo_edge.model.attention.SCORE_BYTES", score_bytes)
    monkeypatch.setattr("steerzo_edge.data.packing.GROUP_COST", group_cost)
    base = tiny("none", torch.float32)
    compare(base, *built(base, rows, SUBSETS["all-layers"], SAVINGS["stacked"], tmp_path))


def test_the_comparison_notices_a_wrong_layer(tiny: Loader, tmp_path: Path) -> None:
    base = tiny("none", torch.float32)
    parts, data = built(base, "phrases", SUBSETS["blocks"], SAVINGS["stacked"], tmp_path)
    first, second = parts.blocks.of(0), parts.blocks.of(1)
    expected = plain_losses(base, parts, data, batch_rows(5, 0, len(data.rows), 5), PROBES, first)
    found = parts.oracle.evaluate(PROBES, parts.batches(0), second)
    assert max(abs(a - b) for a, b in zip(found, expected, strict=True)) > 1e-3


SHAPE = {"vocab_size": len(byte_tokenizer()), "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128}
ENDS = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1}
FAMILIES: dict[str, PretrainedConfig] = {
    "llama": LlamaConfig(**SHAPE, **HEADS, **ENDS),
    "qwen2": Qwen2Config(**SHAPE, **HEADS, **ENDS),
    "qwen3": Qwen3Config(**SHAPE, **HEADS, **ENDS, head_dim=16, tie_word_embeddings=True),
    "mistral-window": MistralConfig(**SHAPE, **HEADS, **ENDS, sliding_window=8),
    "gemma": GemmaConfig(**SHAPE, **HEADS, **ENDS, head_dim=16),
    "gemma2-window-and-caps": Gemma2Config(
        **SHAPE, **HEADS, **ENDS, head_dim=16, sliding_window=8, attn_logit_softcapping=20.0
    ),
    "gemma3-window": Gemma3TextConfig(**SHAPE, **HEADS, **ENDS, head_dim=16, sliding_window=8),
    "phi": PhiConfig(**SHAPE, **HEADS, **ENDS),
    "phi3": Phi3Config(**SHAPE, **HEADS, **ENDS),
    "opt-learned-positions": OPTConfig(
        vocab_size=SHAPE["vocab_size"], hidden_size=64, ffn_dim=128, num_hidden_layers=3, num_attention_heads=4,
        max_position_embeddings=128, word_embed_proj_dim=64, **ENDS,
    ),
    "gpt2-learned-positions": GPT2Config(
        vocab_size=SHAPE["vocab_size"], n_embd=64, n_layer=3, n_head=4, n_positions=128, **ENDS
    ),
    "gpt-neox": GPTNeoXConfig(
        **SHAPE, num_attention_heads=4, max_position_embeddings=128, **ENDS
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def family_path(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Saves a tiny random model of a family; weights larger than usual, so that every token counts."""

    def save(family: str) -> Path:
        path = tmp_path_factory.mktemp(family)
        model = AutoModelForCausalLM.from_config(FAMILIES[family], dtype=torch.float32)
        for name, tensor in model.state_dict().items():
            if tensor.ndim == 2:
                tensor.copy_(
                    torch.randn(tensor.shape, generator=seeded(len(name))) * (1.5 / tensor.shape[-1] ** 0.5)
                )
        model.save_pretrained(path)
        byte_tokenizer().save_pretrained(path)
        return path

    return save


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family(family_path: Any, tmp_path: Path, family: str) -> None:
    """Learned and rotary positions, windows, caps, fused projections, parallel blocks: all subsets, all rows."""
    base = load_base(str(family_path(family)), quantization="none", compute_dtype=torch.float32, device="cpu")
    for number, (subset, rows) in enumerate(product(SUBSETS.values(), DATASETS)):
        compare(base, *built(base, rows, subset, SAVINGS["stacked"], tmp_path / str(number)), range(2))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_in_four_bits(family_path: Any, tmp_path: Path, family: str) -> None:
    base = load_base(str(family_path(family)), quantization="nf4", compute_dtype=torch.float32, device="cpu")
    compare(base, *built(base, "phrases", SUBSETS["blocks-of-the-top"], SAVINGS["stacked"], tmp_path))


@pytest.mark.parametrize("rank", [1, 2, 3, 7, 12, 16])
@pytest.mark.parametrize("kind", [{"kind": "core"}, {"kind": "lora", "a": "inputs"}], ids=["core", "inputs"])
def test_any_rank_any_layers(tiny: Loader, tmp_path: Path, kind: dict[str, Any], rank: int) -> None:
    base = tiny("nf4", torch.float32)
    for last_layers, block_layers in product((None, 1, 2), (None, 1, 2)):
        subset = {**kind, "rank": rank, "last_layers": last_layers, "block_layers": block_layers}
        compare(base, *built(base, "phrases", subset, SAVINGS["stacked"], tmp_path), range(2))
