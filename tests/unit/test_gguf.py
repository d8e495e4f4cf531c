"""GGUF files hold what base and adapter hold, tensor by tensor, or are refused in words."""

import json
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, Qwen2Config

from steerzo_edge.errors import AdapterFileError, BaseModelError, ConflictError, StorageError
from steerzo_edge.export import gguf_file
from steerzo_edge.export.gguf_adapter import export_gguf_adapter
from steerzo_edge.export.gguf_file import write_gguf
from steerzo_edge.export.gguf_model import export_gguf
from steerzo_edge.export.shapes import gguf_shape
from steerzo_edge.export.vocabulary import HARD, cut_of
from steerzo_edge.model.adapter_file import save_adapter
from steerzo_edge.model.last_layers import LastLayers
from steerzo_edge.model.load import load_tokenizer
from steerzo_edge.model.merged import export_merged, load_sixteen_bits
from tests.families import ENDS, FAMILIES, HEADS, SHAPE, saved
from tests.peft_directory import lora_files, written

WRITTEN = ("llama", "smollm-shape", "mistral-without-window", "qwen2", "qwen3", "gpt2-learned-positions")
CONFIGS = FAMILIES | {"mistral-without-window": MistralConfig(**SHAPE, **HEADS, **ENDS, sliding_window=None)}


def base_and_adapter(family: str, path: Path) -> tuple[Path, Path]:
    name = saved(deepcopy(CONFIGS[family]), path / "base")
    return name, written(path / "adapter", lora_files(load_sixteen_bits(str(name)), 4))


def values(tensor: gguf.ReaderTensor) -> Tensor:
    """A tensor of a file in float32, in its own shape; bf16 is the upper half of a float32."""
    shape = [int(size) for size in reversed(tensor.shape)]
    if tensor.tensor_type == gguf.GGMLQuantizationType.BF16:
        halves = torch.from_numpy(tensor.data.view(np.int16).astype(np.int32)) << 16
        return halves.view(torch.float32).view(shape)
    assert tensor.tensor_type == gguf.GGMLQuantizationType.F32
    return torch.from_numpy(tensor.data.copy()).view(shape)


def in_their_order(weight: Tensor, heads: int) -> Tensor:
    """Row 2i of a head is its i-th, row 2i + 1 the one half a head further: written as a loop."""
    width = len(weight) // heads
    rows = [
        head * width + place + half
        for head in range(heads)
        for place in range(width // 2)
        for half in (0, width // 2)
    ]
    return weight[rows]


def renamed(key: str, tensor: Tensor, family: str) -> tuple[str, Tensor]:
    """What a tensor is called in a file, by hand."""
    if family.startswith("gpt2"):
        parts = {"attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "mlp.c_fc": "ffn_up"}
        parts |= {"mlp.c_proj": "ffn_down", "ln_1": "attn_norm", "ln_2": "ffn_norm"}
        outside = {"transformer.wte": "token_embd", "transformer.wpe": "position_embd"}
        outside |= {"transformer.ln_f": "output_norm"}
        start, turned = "transformer.h.", ".c_" in key and key.endswith("weight")
    else:
        parts = {f"self_attn.{own}_proj": f"attn_{own}" for own in "qkv"} | {"self_attn.o_proj": "attn_output"}
        parts |= {f"self_attn.{own}_norm": f"attn_{own}_norm" for own in "qk"}
        parts |= {f"mlp.{own}_proj": f"ffn_{own}" for own in ("gate", "up", "down")}
        parts |= {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
        outside = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
        start, turned = "model.layers.", False
    if not key.startswith(start):
        place, _, part = key.rpartition(".")
        return f"{outside[place]}.{part}", tensor
    number, _, rest = key.removeprefix(start).partition(".")
    place, _, part = rest.rpartition(".")
    if family.split("-")[0] in ("llama", "smollm", "mistral") and parts[place] in ("attn_q", "attn_k"):
        config = CONFIGS[family]
        heads = config.num_attention_heads if parts[place] == "attn_q" else config.num_key_value_heads
        tensor = in_their_order(tensor, heads)
    return f"blk.{number}.{parts[place]}.{part}", tensor.T if turned else tensor


@pytest.mark.parametrize("family", WRITTEN)
def test_a_merged_model_reads_back_tensor_by_tensor(tmp_path: Path, family: str) -> None:
    """Against the merged checkpoint, which is compared with peft's elsewhere."""
    name, adapter = base_and_adapter(family, tmp_path)
    found = export_gguf(adapter, tmp_path / "out.gguf", str(name))
    assert found.holds
    assert found.effect > 0.01
    export_merged(adapter, tmp_path / "merged", str(name))
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.bfloat16)
    tied = model.config.tie_word_embeddings
    expected = dict(
        renamed(key, tensor.float(), family)
        for key, tensor in model.state_dict().items()
        if not (tied and key == "lm_head.weight")
    )
    read = gguf.GGUFReader(tmp_path / "out.gguf")
    assert {tensor.name for tensor in read.tensors} == set(expected)
    for tensor in read.tensors:
        assert torch.equal(values(tensor), expected[tensor.name]), tensor.name
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "base", "merged", "out.gguf"]


@pytest.mark.parametrize("family", WRITTEN)
def test_an_adapter_reads_back_tensor_by_tensor(tmp_path: Path, family: str) -> None:
    name, adapter = base_and_adapter(family, tmp_path)
    export_gguf_adapter(adapter, tmp_path / "lora.gguf", str(name))
    pairs = load_file(adapter / "adapter_model.safetensors")
    expected = {}
    for key, tensor in pairs.items():
        layer, _, part = key.removeprefix("base_model.model.").removesuffix(".weight").rpartition(".")
        outside, _ = renamed(f"{layer}.weight", torch.empty(64, 64), family)
        if part == "lora_B":
            _, tensor = renamed(f"{layer}.bias", tensor, family)
        expected[f"{outside}.{part.lower()}"] = tensor
    read = gguf.GGUFReader(tmp_path / "lora.gguf")
    assert {tensor.name for tensor in read.tensors} == set(expected)
    for tensor in read.tensors:
        assert torch.equal(values(tensor), expected[tensor.name]), tensor.name
    assert read.fields["adapter.lora.alpha"].contents() == 8.0
    assert read.fields["general.type"].contents() == "adapter"


def test_a_rank_stabilized_adapter_means_the_root_of_its_rank(tiny_path: Path, tmp_path: Path) -> None:
    files = lora_files(load_sixteen_bits(str(tiny_path)), 4, use_rslora=True)
    export_gguf_adapter(written(tmp_path / "adapter", files), tmp_path / "lora.gguf", str(tiny_path))
    fields = gguf.GGUFReader(tmp_path / "lora.gguf").fields
    assert fields["adapter.lora.alpha"].contents() / 4 == 8 / 4**0.5


def test_the_tokenizer_is_written_whole(tmp_path: Path) -> None:
    base = load_sixteen_bits("bundled")
    adapter = written(tmp_path / "adapter", lora_files(base, 2, "q_proj"))
    export_gguf(adapter, tmp_path / "out.gguf", "bundled")
    fields = gguf.GGUFReader(tmp_path / "out.gguf").fields
    tokenizer = load_tokenizer()
    pieces, kinds = (fields[f"tokenizer.ggml.{key}"].contents() for key in ("tokens", "token_type"))
    assert len(pieces) == len(kinds) == base.model.config.vocab_size
    vocabulary = tokenizer.get_vocab()
    assert all(pieces[token] == piece for piece, token in vocabulary.items())
    assert {pieces[row] for row, kind in enumerate(kinds) if kind == 3} == set(tokenizer.all_special_tokens)
    described = json.loads(tokenizer.backend_tokenizer.to_str())
    merges = fields["tokenizer.ggml.merges"].contents()
    assert [merge.split(" ") for merge in merges] == [list(merge) for merge in described["model"]["merges"]]
    assert fields["tokenizer.chat_template"].contents() == tokenizer.chat_template
    assert fields["tokenizer.ggml.eos_token_id"].contents() == tokenizer.eos_token_id
    assert not fields["tokenizer.ggml.add_bos_token"].contents()


def bpe(pattern: str, merges: list[tuple[str, str]]) -> Tokenizer:
    """A byte-level BPE that cuts text by a pattern."""
    pieces = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *("".join(merge) for merge in merges)]
    tokenizer = Tokenizer(models.BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=merges))
    split = pre_tokenizers.Split(gguf_regex(pattern), "isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    return tokenizer


def gguf_regex(pattern: str) -> Any:
    from tokenizers import Regex

    return Regex(pattern)


def test_the_cut_is_found_by_what_it_does() -> None:
    words = r"'(?i:s|t|re|ve|m|ll|d)| ?\p{L}+| ?\p{N}%s| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
    # Digits are never merged, so the ids do not show how numbers are cut.
    assert cut_of(bpe(words % "", [("a", "n"), ("Ġ", "l")])) == "gpt-2"
    assert cut_of(bpe(words % "+", [("1", "2"), ("Ġ", "2")])) == "gpt-2"
    # Here they are: one cut joins the space to the first digit, the other does not.
    assert cut_of(bpe(r"\p{N}| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+", [("1", "2"), ("Ġ", "2")])) == "smollm"
    later = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    merges = [("1", "2"), ("2", "3"), (",", "w"), (")", "Ċ")]
    assert cut_of(bpe(later, merges)) == "llama-bpe"
    assert any("12" in text for text in HARD)


@pytest.mark.parametrize("wrong", ["merges over words", "lower case", "no bytes"])
def test_a_tokenizer_that_llama_cpp_would_cut_otherwise_is_refused(wrong: str) -> None:
    if wrong == "merges over words":
        tokenizer = bpe(r"\S+\s*", [("o", ","), ("a", "Ġ")])
    else:
        tokenizer = bpe(r" ?\p{L}+| ?\p{N}+|\s+", [])
        if wrong == "lower case":
            tokenizer.normalizer = normalizers.Lowercase()
        else:
            tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    with pytest.raises(BaseModelError) as refusal:
        cut_of(tokenizer)
    assert "convert_hf_to_gguf" in refusal.value.hint


@pytest.mark.parametrize(
    ("config", "match"),
    [
        (FAMILIES["phi3"], "not for phi3"),
        (FAMILIES["mistral-window"], "8 tokens back"),
        (LlamaConfig(**SHAPE, **HEADS, hidden_act="gelu"), "gelu"),
        (Qwen2Config(**SHAPE, **HEADS, rope_parameters={"rope_theta": 1e4, "rope_type": "yarn", "factor": 2.0,
         "original_max_position_embeddings": 64}), "yarn"),
    ],
    ids=["family", "window", "activation", "positions"],
)  # fmt: skip
def test_what_llama_cpp_would_compute_otherwise_is_refused(config: LlamaConfig, match: str) -> None:
    with pytest.raises(BaseModelError, match=match) as refusal:
        gguf_shape(config)
    assert "merged" in refusal.value.hint


def test_whole_layers_are_no_gguf_adapter(tiny_path: Path, tmp_path: Path) -> None:
    base = load_sixteen_bits(str(tiny_path))
    name, layer = list(base.bank.layers.items())[-1]
    save_adapter(tmp_path / "adapter", LastLayers({name: layer}, compute_dtype=torch.bfloat16), base)
    with pytest.raises(AdapterFileError, match="full layers"):
        export_gguf_adapter(tmp_path / "adapter", tmp_path / "lora.gguf", str(tiny_path))
    assert export_gguf(tmp_path / "adapter", tmp_path / "out.gguf", str(tiny_path)).holds


@pytest.mark.parametrize("damaged", ["tensor", "fact"])
def test_a_file_that_does_not_read_back_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damaged: str
) -> None:
    right = gguf_file._write

    def wrong(package, path, architecture, facts, tensors):  # type: ignore[no-untyped-def]
        if damaged == "tensor":
            tensors = {name: tensor + 1 for name, tensor in tensors.items()}
        else:
            facts = {**facts, "llama.block_count": 4}
        right(package, path, architecture, facts, tensors)

    monkeypatch.setattr(gguf_file, "_write", wrong)
    with pytest.raises(StorageError, match="differs from what was written"):
        write_gguf(tmp_path / "x.gguf", "llama", {"llama.block_count": 3}, {"output.weight": torch.ones(4, 4)})
    assert list(tmp_path.iterdir()) == []


def test_without_the_package_it_is_said_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(ConflictError) as refusal:
        export_gguf(tmp_path, tmp_path / "out.gguf", "bundled")
    assert refusal.value.hint == 'pip install "steerzo-edge[gguf]"'


def test_nothing_is_written_over(tiny_path: Path, tmp_path: Path) -> None:
    (tmp_path / "out.gguf").write_text("mine")
    with pytest.raises(ConflictError, match="already"):
        export_gguf(tmp_path, tmp_path / "out.gguf", str(tiny_path))
    assert (tmp_path / "out.gguf").read_text() == "mine"
