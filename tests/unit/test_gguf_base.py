"""A GGUF file as a base: what was written is read, and what cannot be read is named."""

import struct
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, PretrainedConfig

from steerzo_edge.errors import BaseModelError
from steerzo_edge.export.gguf_model import export_gguf
from steerzo_edge.model.base import Base
from steerzo_edge.model.gguf.header import read_header
from steerzo_edge.model.gguf.tensors import read_tensor
from steerzo_edge.model.load import load_base, load_tokenizer
from steerzo_edge.model.merged import load_sixteen_bits
from steerzo_edge.model.quantization import Quantization
from tests.conftest import CHAT_TEMPLATE, byte_tokenizer
from tests.families import ENDS, FAMILIES, HEADS, SHAPE, saved
from tests.gguf_file import gguf_of
from tests.peft_directory import lora_files, written

Q = gguf.GGMLQuantizationType
SCALED = LlamaConfig(
    **SHAPE, **HEADS, **ENDS,
    rope_parameters={
        "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
    },
)  # fmt: skip
EXPORTED: dict[str, PretrainedConfig] = {
    **{
        family: FAMILIES[family] for family in ("llama", "smollm-shape", "qwen2", "qwen3", "gpt2-learned-positions")
    },
    "llama-scaled-positions": SCALED,
}
TEXT = "It's 1984, and   42 boats came home."


def load(path: Path | str, kind: Quantization = "none", dtype: torch.dtype = torch.bfloat16) -> Base:
    return load_base(str(path), quantization=kind, compute_dtype=dtype, device="cpu")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A directory with a base of a family, and `base.gguf`, the export of an adapter that changes nothing."""
    made: dict[str, Path] = {}

    def directory(family: str) -> Path:
        if family not in made:
            made[family] = tmp_path_factory.mktemp(family)
            path = saved(deepcopy(EXPORTED[family]), made[family] / "base")
            files = lora_files(load_sixteen_bits(str(path)), 4, lora_alpha=0)
            export_gguf(written(made[family] / "adapter", files), made[family] / "base.gguf", str(path))
        return made[family]

    return directory


@pytest.mark.parametrize("kind", ["none", "nf4"])
@pytest.mark.parametrize("family", EXPORTED)
def test_what_the_export_writes(exported: Callable[[str], Path], family: str, kind: Quantization) -> None:
    """The same weights, bit for bit, the same positions, tokens, ends and chat."""
    plain, found = (load(exported(family) / name, kind) for name in ("base", "base.gguf"))
    for name, layer in plain.bank.layers.items():
        other = found.bank.layers[name]
        assert torch.equal(layer.weight_like_base(torch.float32), other.weight_like_base(torch.float32)), name
    ids = torch.tensor([plain.tokenizer.encode(TEXT)])
    with torch.inference_mode():
        expected = plain.model(input_ids=ids).logits
        assert torch.equal(found.model(input_ids=ids).logits, expected)
    assert found.tokenizer.encode(TEXT) == plain.tokenizer.encode(TEXT)
    assert found.tokenizer.chat_template == CHAT_TEMPLATE
    assert found.end_tokens == plain.end_tokens
    assert found.context_length == plain.context_length


@pytest.mark.parametrize(
    "kind", ["F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"]
)
def test_types_of_tensors(tmp_path: Path, kind: str) -> None:
    """Rows that do not fit one part, expanded as the package `gguf` expands the whole."""
    file = gguf.GGUFWriter(tmp_path / "x.gguf", "llama")
    count, size = gguf.GGML_QUANT_SIZES[Q[kind]]
    rows, width = 37, 512
    generator = np.random.default_rng(0)
    raw = generator.integers(0, 56, (rows, width // count * size), dtype=np.uint8)  # small: all scales are finite
    file.add_tensor("a", np.zeros((3, 32), np.float32))
    file.add_tensor("token_embd.weight", raw, raw_dtype=Q[kind])
    file.write_header_to_file()
    file.write_kv_data_to_file()
    file.write_tensors_to_file()
    file.close()
    header = read_header(tmp_path / "x.gguf", name="x")
    assert header.tensors["token_embd.weight"].shape == (rows, width)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("steerzo_edge.model.gguf.tensors._PART", 5 * width)
        found = read_tensor(header, "token_embd.weight", torch.float32, name="x")
    expected = torch.from_numpy(gguf.dequantize(raw, Q[kind]).reshape(rows, width).astype(np.float32))
    assert torch.equal(found, expected)
    assert float(expected.abs().max()) > 0


def test_a_quantized_file_is_packed_again(tmp_path: Path) -> None:
    def quantize(facts: dict[str, Any], tensors: dict[str, Any]) -> None:
        for key, array in tensors.items():
            if array.ndim == 2:
                tensors[key] = gguf.quantize(array, Q.Q8_0), Q.Q8_0

    packed = load(gguf_of(tmp_path / "q8.gguf", quantize), "int8")
    assert packed.model.config.tie_word_embeddings
    assert packed.quantization == "int8"
    assert packed.tokenizer.encode("a 12") == byte_tokenizer().encode("a 12")


def test_a_directory_with_one_file_and_with_two(tmp_path: Path) -> None:
    gguf_of(tmp_path / "one.gguf")
    assert load(tmp_path).name == str(tmp_path)
    assert load_tokenizer(str(tmp_path)).encode("good")
    gguf_of(tmp_path / "two.gguf")
    with pytest.raises(BaseModelError, match=r"holds 2 GGUF files: one\.gguf, two\.gguf") as refusal:
        load(tmp_path)
    assert "one.gguf" in refusal.value.hint


def test_a_directory_with_the_parts_of_a_file(tmp_path: Path) -> None:
    for name in ("x-00001-of-00002.gguf", "x-00002-of-00002.gguf"):
        changed(lambda f, t: f.update({"split.no": 0, "split.count": 2}))(tmp_path / name)
    with pytest.raises(BaseModelError, match="part 1 of 2 of a split GGUF file") as refusal:
        load(tmp_path)
    assert "llama-gguf-split --merge" in refusal.value.hint


def test_a_name_without_an_ending(tmp_path: Path) -> None:
    gguf_of(tmp_path / "x.gguf").rename(tmp_path / "sha256-12")
    assert load(tmp_path / "sha256-12").context_length == 128
    (tmp_path / "model.bin").write_bytes(b"else")
    with pytest.raises(BaseModelError, match="it is a file, and no GGUF file"):
        load(tmp_path / "model.bin")


def test_safetensors_in_the_directory_come_first(tiny_path: Path, tmp_path: Path) -> None:
    for file in tiny_path.iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "other.gguf").write_bytes(b"no")
    assert load(tmp_path).context_length == 256


def unknown_type(path: Path) -> None:
    data = path.read_bytes()
    entry = data.index(b"output_norm.weight")
    place = entry + len("output_norm.weight") + 4 + 8  # one dimension
    path.write_bytes(data[:place] + struct.pack("<I", 3999) + data[place + 4 :])


def changed(change: Callable[[dict[str, Any], dict[str, Any]], Any]) -> Callable[[Path], Any]:
    return lambda path: gguf_of(path, change)


def cut(part: float) -> Callable[[Path], Any]:
    return lambda path: path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])


def nan(facts: dict[str, Any], tensors: dict[str, Any]) -> None:
    tensors["blk.1.ffn_up.weight"][3, 4] = np.nan


BAD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "not one": (lambda path: path.write_bytes(b"hello there"), "is not a GGUF file"),
    "cut in its tensors": (cut(0.9), r"is cut off: its tensor \S+ ends at byte [\d,]+, and the file has"),
    "cut in its header": (lambda path: path.write_bytes(path.read_bytes()[:700]), "its header cannot be read"),
    "nothing but a name": (lambda path: path.write_bytes(b"GGUF"), "its header cannot be read"),
    "an empty file": (lambda path: path.write_bytes(b""), "is an empty file"),
    "a LoRA adapter": (changed(lambda f, t: f.update({"general.type": "adapter"})), "is a LoRA adapter, not a"),
    "an importance matrix": (changed(lambda f, t: f.update({"general.type": "imatrix"})), "importance matrix"),
    "a projector": (
        changed(lambda f, t: f.update({"architecture": "clip", "general.type": "mmproj"})),
        "reads images or sound",
    ),
    "a projector of old": (changed(lambda f, t: f.update(architecture="clip")), "reads images or sound"),
    "a part": (
        changed(lambda f, t: f.update({"split.no": 1, "split.count": 3})),
        "part 2 of 3 of a split GGUF file",
    ),
    "an alignment of 0": (changed(lambda f, t: f.update({"general.alignment": 0})), "its header cannot be read"),
    "version 1": (lambda path: path.write_bytes(b"GGUF\1\0\0\0" + bytes(90)), "of version 1"),
    "a type of tensor": (unknown_type, r"output_norm\.weight of type 3999"),
    "an architecture": (
        changed(lambda f, t: f.update(architecture="rwkv7")),
        "'rwkv7', which cannot be read from GGUF",
    ),
    "no sizes": (changed(lambda f, t: f.pop("llama.block_count")), r"does not say its llama\.block_count"),
    "experts": (changed(lambda f, t: f.update({"llama.expert_count": 8})), r"llama\.expert_count, which is not"),
    "stretched positions": (
        changed(lambda f, t: f.update({"llama.rope.scaling.type": "odd", "llama.rope.scaling.factor": 2.0})),
        "stretches its rotary positions",
    ),
    "odd frequencies": (
        changed(lambda f, t: t.update({"rope_freqs.weight": np.arange(1, 9, dtype=np.float32)})),
        "stretches its rotary positions",
    ),
    "a missing tensor": (
        changed(lambda f, t: t.pop("blk.2.attn_k.weight")),
        r"no model\.layers\.2\.self_attn\.k_proj",
    ),
    "one too many": (
        changed(lambda f, t: t.update({"blk.0.attn_k_norm.weight": np.ones(16, np.float32)})),
        r"a tensor blk\.0\.attn_k_norm\.weight",
    ),
    "another shape": (changed(lambda f, t: f.update({"llama.feed_forward_length": 96})), "contradicts its config"),
    "not finite": (changed(nan), r"mlp\.up_proj\.weight that are not finite"),
    "no tokenizer": (changed(lambda f, t: f.pop("tokenizer.ggml.tokens")), "no tokenizer in its GGUF file"),
    "a kind of tokenizer": (changed(lambda f, t: f.update({"tokenizer.ggml.model": "rwkv"})), "of the kind 'rwkv'"),
    "absent": (lambda path: path.unlink(), "there is no such file"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_file_that_cannot_be_read_says_why(tmp_path: Path, case: str) -> None:
    spoil, match = BAD[case]
    path = gguf_of(tmp_path / "x.gguf")
    assert case != "not one" or load(path)  # the file itself is good
    spoil(path)
    with pytest.raises(BaseModelError, match=match) as refusal:
        load(path)
    assert refusal.value.hint


@pytest.mark.parametrize(
    ("pre", "expected"),
    [
        ("smollm", [["1"], ["2"], ["3"], ["Ġa"], ["Ġ", "4"]]),
        ("gpt-2", [["123"], ["Ġa"], ["Ġ4"]]),
        ("llama-bpe", [["123"], ["Ġa"], ["Ġ"], ["4"]]),
    ],
)
def test_the_pre_tokenizer_is_the_one_that_the_file_names(
    tmp_path: Path, pre: str, expected: list[list[str]]
) -> None:
    """All merges that digits and blanks allow: only the cut keeps them apart."""

    def merged(facts: dict[str, Any], tensors: dict[str, Any]) -> None:
        added = ["12", "123", "Ġ4", "Ġa"]
        facts["tokenizer.ggml.tokens"] += added
        facts["tokenizer.ggml.token_type"] += [1] * len(added)
        facts["tokenizer.ggml.merges"] = ["1 2", "12 3", "Ġ 4", "Ġ a"]
        facts["tokenizer.ggml.pre"] = pre
        embedding = tensors["token_embd.weight"]
        tensors["token_embd.weight"] = np.concatenate([embedding, embedding[: len(added)]])

    tokenizer = load_tokenizer(str(gguf_of(tmp_path / "x.gguf", merged)))
    assert tokenizer.convert_ids_to_tokens(tokenizer.encode("123 a 4")) == [p for word in expected for p in word]
    assert tokenizer.decode(tokenizer.encode("123 a 4")) == "123 a 4"


def test_an_unknown_pre_tokenizer_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = gguf_of(tmp_path / "x.gguf", lambda facts, tensors: facts.update({"tokenizer.ggml.pre": "odd"}))
    load_tokenizer(str(path))
    assert "cuts text as 'odd' does" in caplog.text


def test_the_end_tokens_of_the_file_are_used(tmp_path: Path) -> None:
    def ask(facts: dict[str, Any], tensors: dict[str, Any]) -> None:
        facts |= {"tokenizer.ggml.bos_token_id": 2, "tokenizer.ggml.add_bos_token": True}
        facts |= {"tokenizer.ggml.eot_token_id": 3}

    base = load(gguf_of(tmp_path / "x.gguf", ask))
    assert base.tokenizer.encode("a")[0] == 2
    assert base.end_tokens == {0, 3}


def test_tensors_are_not_made_twice(tmp_path: Path) -> None:
    """The embedding of a large vocabulary goes to the compute type in parts."""
    seen: list[torch.dtype] = []
    whole = read_tensor

    def noted(header: Any, key: str, dtype: torch.dtype, *, name: str) -> Tensor:
        if key == "token_embd.weight":
            seen.append(dtype)
        return whole(header, key, dtype, name=name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("steerzo_edge.model.gguf.file.read_tensor", noted)
        load(gguf_of(tmp_path / "x.gguf"))
    assert seen == [torch.bfloat16]
