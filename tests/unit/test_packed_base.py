"""A packed base is the base that was packed: the same bits, mapped from one file; damage of any kind is refused."""

import gc
import json
import shutil
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import pre_tokenizers
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from steerzo_edge.errors import BaseModelError
from steerzo_edge.model.adapter_file import load_adapter
from steerzo_edge.model.base import Base
from steerzo_edge.model.load import load_base, load_tokenizer
from steerzo_edge.model.merged import load_sixteen_bits
from steerzo_edge.model.packed import contents
from steerzo_edge.model.packed.contents import pack_base
from steerzo_edge.model.packed.file import DamagedError, open_packed, write_packed
from steerzo_edge.model.quantization import Quantization
from tests.conftest import Loader, byte_tokenizer
from tests.families import FAMILIES, FURTHER, saved
from tests.gguf_file import gguf_of
from tests.unit.packed_bases import assert_same, cache_in, is_mapped, load, pack, unwrapped
from tests.unit.runs import finished

KINDS: tuple[Quantization, ...] = ("nf4", "fp4", "int8", "none")
SHAPES = ("llama", "smollm-shape", "qwen2", "gemma2-window-and-caps", "gpt2-learned-positions", "mixtral-experts")


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def path(family: str) -> Path:
        if family not in made:
            made[family] = saved(deepcopy((FAMILIES | FURTHER)[family]), tmp_path_factory.mktemp(family))
        return made[family]

    return path


@pytest.fixture(scope="module")
def packed_once(tiny_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(load(tiny_path), tmp_path_factory.mktemp("packed") / "tiny.packed")


@pytest.fixture
def file(packed_once: Path, tmp_path: Path) -> Path:
    """A copy for each test: some damage it."""
    return Path(shutil.copy(packed_once, tmp_path / "tiny.packed"))


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The bases whose first forward is compared."""
    names: list[str] = []
    monkeypatch.setattr("steerzo_edge.model.load.check_forward", lambda base: names.append(base.name))
    return names


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", SHAPES)
def test_the_bits_are_those_of_the_base(
    paths: Callable[[str], Path], tmp_path: Path, family: str, kind: Quantization
) -> None:
    """Tied and untied heads, biases, transposed layers, experts, layers narrower than a block of scales."""
    base = load(paths(family), kind)
    assert_same(load(pack(base, tmp_path / "x.packed"), kind), load(paths(family), kind))


def test_a_gguf_base(tmp_path: Path) -> None:
    path = gguf_of(tmp_path / "x.gguf")
    assert_same(load(pack(load(path), tmp_path / "x.packed")), load(path))


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_a_base_that_was_released_quantized(
    paths: Callable[[str], Path], tmp_path: Path, kind: Quantization
) -> None:
    """With scales that are quantized too."""
    four_bit = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}
    how: dict[str, Any] = four_bit if kind == "nf4" else {"load_in_8bit": True}
    released = tmp_path / "released"
    model = AutoModelForCausalLM.from_pretrained(
        paths("llama"), quantization_config=BitsAndBytesConfig(**how), dtype=torch.bfloat16, device_map="cpu"
    )
    model.save_pretrained(released)
    byte_tokenizer().save_pretrained(released)
    assert_same(load(pack(load(released, kind), tmp_path / "x.packed"), kind), load(released, kind))


def test_nothing_is_copied(file: Path) -> None:
    """Every tensor that the file has is in the mapping; writing to one leaves the file as it is."""
    before = file.read_bytes()
    base = load(file)
    spans = [
        tuple(int(end, 16) for end in line.split()[0].split("-"))
        for line in Path("/proc/self/maps").read_text().splitlines()
        if line.endswith(str(file))
    ]
    model = unwrapped(base)
    for name, tensor in model.named_parameters():
        assert any(first <= tensor.data_ptr() < last for first, last in spans), name
    layer: Any = base.bank.layers[UP].base
    scales = layer.weight.quant_state.absmax
    assert any(first <= scales.data_ptr() < last for first, last in spans)
    with torch.no_grad():
        model.model.norm.weight.add_(1)
    assert file.read_bytes() == before


def test_every_large_tensor_begins_at_a_multiple_of_64_bytes(file: Path) -> None:
    tensors = open_packed(file).tensors
    aligned = [tensor.data_ptr() % 64 == 0 for tensor in tensors.values() if tensor.nbytes % 64 == 0]
    assert len(aligned) > 50
    assert all(aligned)


def test_the_file_is_released_with_the_model(file: Path) -> None:
    base = load(file)
    assert is_mapped(file)
    del base
    gc.collect()
    assert not is_mapped(file)


def test_equal_bases_give_equal_files(file: Path, tiny_path: Path, tmp_path: Path) -> None:
    again = pack(load(tiny_path), tmp_path / "again.packed")
    assert again.read_bytes() == file.read_bytes()


def test_an_adapter_is_the_same_on_both(file: Path, tiny_path: Path, tmp_path: Path) -> None:
    """Trained on either, it has the same bytes, and the other one takes it."""
    plain, packed = load(tiny_path), load(file)
    one, other = finished(tmp_path / "one", plain, steps=4), finished(tmp_path / "other", packed, steps=4)
    assert one.sha256 == other.sha256
    weights = "adapter_model.safetensors"
    assert (one.adapter / weights).read_bytes() == (other.adapter / weights).read_bytes()
    for adapter, base in ((one.adapter, packed), (other.adapter, plain)):
        assert load_adapter(adapter, base)


def test_it_opens_where_the_original_never_was(paths: Callable[[str], Path], tmp_path: Path) -> None:
    original = Path(shutil.copytree(paths("llama"), tmp_path / "original"))
    packed = pack(load(original), tmp_path / "there.packed")
    expected = load(original).fingerprint
    shutil.rmtree(original)
    base = load(packed)
    assert (base.name, base.fingerprint) == (str(packed), expected)
    assert load_tokenizer(str(packed)).encode("good") == base.tokenizer.encode("good")
    with pytest.raises(BaseModelError, match="no 16-bit weights"):
        load_sixteen_bits(str(packed))


def test_sixteen_bits_can_be_merged(paths: Callable[[str], Path], tmp_path: Path) -> None:
    packed = pack(load(paths("llama"), "none"), tmp_path / "x.packed")
    assert load_sixteen_bits(str(packed)).fingerprint == load(paths("llama"), "none").fingerprint


def test_the_first_forward_is_compared_by_each_version_once(
    file: Path, compared: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    load(file)
    assert compared == []
    version = contents._version
    monkeypatch.setattr(contents, "_version", lambda name: "0" if name == "torch" else version(name))
    load(file)
    assert compared == [str(file)]


@pytest.mark.parametrize(
    ("settings", "match", "hint"),
    [
        ({"quantization": "int8"}, "released in nf4, and the settings ask for int8", "Set quantization to nf4"),
        ({"quantization": "none"}, "released in nf4, and the settings ask for none", "Set quantization to nf4"),
        ({"compute_dtype": torch.float32}, "compute_dtype bfloat16, and .* ask for float32", "compute_dtype to bf"),
    ],
)
def test_other_settings_than_it_was_packed_with(
    file: Path, settings: dict[str, Any], match: str, hint: str
) -> None:
    with pytest.raises(BaseModelError, match=match) as refusal:
        load_base(str(file), device="cpu", **settings)
    assert hint in refusal.value.hint


def test_sixteen_bits_are_not_quantized_again(tiny_path: Path, tmp_path: Path) -> None:
    packed = pack(load(tiny_path, "none"), tmp_path / "x.packed")
    with pytest.raises(BaseModelError, match="quantization none, and the settings ask for nf4"):
        load(packed)


def test_a_flipped_byte_is_found_wherever_it_is(file: Path) -> None:
    whole = file.read_bytes()
    size = 8 + int.from_bytes(whole[:8], "little")
    places = [0, 3, 12, 60, 150, size - 1, size, *range(size + 999, len(whole), len(whole) // 40), len(whole) - 1]
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1
        file.write_bytes(damaged)
        with pytest.raises(DamagedError, match=r"is (damaged|not a packed base)"):
            open_packed(file)
    with pytest.raises(BaseModelError, match=r"packed base .* is damaged") as refusal:
        load(file)
    assert "pack the base again" in refusal.value.hint
    file.write_bytes(whole)
    assert load(file)


@pytest.mark.parametrize("change", [lambda b: b[:-1], lambda b: b + b"\0", lambda b: b[:9], lambda b: b""])
def test_a_file_of_another_length(file: Path, change: Callable[[bytes], bytes]) -> None:
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(BaseModelError, match=r"is (damaged|not a packed base)"):
        load(file)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match="there is no such file"):
        load(tmp_path / "gone.packed")


def without(name: str) -> Callable[[dict[str, Any], dict[str, Tensor]], Any]:
    return lambda notes, tensors: tensors.pop(name)


def shorter(name: str) -> Callable[[dict[str, Any], dict[str, Tensor]], Any]:
    return lambda notes, tensors: tensors.update({name: tensors[name][:-1].clone()})


UP = "model.layers.0.mlp.up_proj"
FORGED: dict[str, tuple[Callable[[dict[str, Any], dict[str, Tensor]], Any], str]] = {
    "codes too short": (shorter(f"{UP}.weight"), "sizes of 4-bit codes and scales"),
    "scales too short": (shorter(f"{UP}.weight.absmax"), "sizes of 4-bit codes and scales"),
    "code book too short": (shorter(f"{UP}.weight.quant_map"), "sizes of 4-bit codes and scales"),
    "no codes": (without(f"{UP}.weight"), "other tensors than its config|KeyError"),
    "no norm": (without("model.norm.weight"), "other tensors than its config"),
    "an embedding too short": (shorter("model.embed_tokens.weight"), "embed_tokens.weight in another size"),
    "a tensor too many": (lambda n, t: t.update({"more": torch.ones(3)}), "other tensors than its config"),
    "another size in the config": (lambda n, t: n["config"].update(intermediate_size=96), "in another size"),
    "another number of layers": (lambda n, t: n["config"].update(num_hidden_layers=2), "other tensors than"),
    "a family that is not known": (lambda n, t: n["config"].update(model_type="none such"), "KeyError"),
    "no config": (lambda n, t: n.pop("config"), "KeyError"),
    "no storage": (lambda n, t: n.update(quantization="int3"), "KeyError"),
    "layers of another kind": (lambda n, t: n.update(layers=7), "TypeError"),
    "a later format": (lambda n, t: n.update(format=2), "format 2, and this version reads format 1"),
    "a path out of the tokenizer": (
        lambda n, t: t.update({"tokenizer/../../evil.json": t["tokenizer/tokenizer.json"]}), "names a file"
    ),
    "an absolute path": (
        lambda n, t: t.update({"tokenizer//evil.json": t["tokenizer/tokenizer.json"]}), "names a file"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FORGED)
def test_a_file_with_a_right_hash_and_wrong_content(file: Path, case: str) -> None:
    """As another program may make it: nothing is read beyond a tensor's end, nothing written elsewhere."""
    opened = open_packed(file)
    notes, tensors = json.loads(json.dumps(dict(opened.notes))), {k: v.clone() for k, v in opened.tensors.items()}
    change, match = FORGED[case]
    change(notes, tensors)
    write_packed(file, notes, tensors)
    with pytest.raises(BaseModelError, match=match) as refusal:
        load(file)
    assert refusal.value.hint


def test_code_is_refused(file: Path) -> None:
    """A config that names Python files is one that `transformers` might ask to run."""
    opened = open_packed(file)
    notes = json.loads(json.dumps(dict(opened.notes)))
    notes["config"]["auto_map"] = {"AutoConfig": "evil.Config"}
    write_packed(file, notes, {key: tensor.clone() for key, tensor in opened.tensors.items()})
    with pytest.raises(BaseModelError, match="Python code of its own"):
        load(file)


def test_a_tokenizer_that_changes_when_it_is_written_is_not_packed(
    tiny: Loader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base: Base = tiny("nf4", torch.bfloat16)
    again = byte_tokenizer()
    again.backend_tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", lambda path, **options: again)
    with pytest.raises(BaseModelError, match="another one once it was written"):
        pack_base(base, byte_tokenizer(), tmp_path / "x.packed")
    assert list(tmp_path.iterdir()) == []


def test_the_bundled_base_and_packed_ones_are_not_kept_in_a_cache(file: Path, tmp_path: Path) -> None:
    cache = cache_in(tmp_path / "cache")
    for name in ("bundled", file):
        load(name, "nf4", cache)
    assert cache.kept() == []
