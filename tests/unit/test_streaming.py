"""Loading tensor by tensor gives what `transformers` gives, and refuses what it would make up."""

import json
import shutil
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from steerzo_edge.errors import BaseModelError
from steerzo_edge.model.base import Base
from steerzo_edge.model.fingerprint import fingerprint
from steerzo_edge.model.load import load_base
from steerzo_edge.model.quantization import STORAGES, Quantization
from steerzo_edge.model.sources.checkpoint import Checkpoint
from tests.families import FAMILIES, FURTHER, saved

STREAMED = ("llama", "smollm-shape", "qwen2", "gemma2-window-and-caps", "gpt2-learned-positions", "gpt-neox")


@pytest.fixture
def by_transformers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The bases that `transformers` loaded itself."""
    names: list[str] = []
    whole = Checkpoint._by_transformers
    monkeypatch.setattr(
        Checkpoint, "_by_transformers", lambda source, given: names.append(source.name) or whole(source, given)
    )
    return names


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def path(family: str) -> Path:
        if family not in made:
            made[family] = saved(deepcopy(FAMILIES[family]), tmp_path_factory.mktemp(family))
        return made[family]

    return path


@pytest.fixture
def base(tiny_path: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_path, tmp_path / "base"))


def load(path: Path, kind: Quantization = "nf4", dtype: torch.dtype = torch.bfloat16) -> Base:
    return load_base(str(path), quantization=kind, compute_dtype=dtype, device="cpu")


def rewrite(path: Path, change: Callable[[dict[str, Tensor]], Any]) -> None:
    tensors = load_file(path / "model.safetensors")
    tensors = {key: tensor.clone() for key, tensor in tensors.items()}
    change(tensors)
    save_file(tensors, path / "model.safetensors", {"format": "pt"})


def configure(path: Path, **settings: object) -> None:
    config = path / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | settings))


@pytest.mark.parametrize("kind", ["nf4", "fp4", "int8", "none"])
@pytest.mark.parametrize("family", STREAMED)
def test_the_bits_are_those_of_transformers(
    paths: Callable[[str], Path], by_transformers: list[str], family: str, kind: Quantization
) -> None:
    """Float32 files, packed by way of bf16; names, types and shapes are in the fingerprint too."""
    path = paths(family)
    found = load(path, kind)
    assert not by_transformers
    expected = AutoModelForCausalLM.from_pretrained(
        path, dtype=torch.bfloat16, device_map={"": "cpu"}, **STORAGES[kind].load_options(torch.bfloat16)
    )
    assert found.fingerprint == fingerprint(expected)
    assert found.model.generation_config.to_dict() == expected.generation_config.to_dict()
    assert all(not tensor.is_meta for tensor in (*found.model.parameters(), *found.model.buffers()))
    buffers = dict(expected.named_buffers())
    assert all(
        torch.equal(buffer, buffers[name]) for name, buffer in found.model.named_buffers() if name in buffers
    )


def test_shards(base: Path, by_transformers: list[str]) -> None:
    whole = load(base).fingerprint
    tensors = load_file(base / "model.safetensors")
    (base / "model.safetensors").unlink()
    places = {}
    for number, key in enumerate(tensors):
        shard = f"part-{number % 3}.safetensors"
        places[key] = shard
    for shard in set(places.values()):
        save_file({key: tensors[key] for key in tensors if places[key] == shard}, base / shard, {"format": "pt"})
    index = base / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": places}))
    assert load(base).fingerprint == whole
    assert not by_transformers
    (base / "part-1.safetensors").unlink()
    with pytest.raises(BaseModelError, match=r"names part-1\.safetensors, and there is no such file"):
        load(base)
    index.write_text("[]")
    with pytest.raises(BaseModelError, match="does not say which file has which tensor"):
        load(base)


def test_names_without_the_first_part(
    paths: Callable[[str], Path], tmp_path: Path, by_transformers: list[str]
) -> None:
    """GPT-2 was released so, with the masks of its attention among the weights."""
    path = Path(shutil.copytree(paths("gpt2-learned-positions"), tmp_path / "gpt2"))
    tensors = load_file(path / "model.safetensors")
    bare = {key.removeprefix("transformer."): tensor for key, tensor in tensors.items()}
    bare["h.0.attn.bias"] = torch.ones(1, 1, 128, 128)
    save_file(bare, path / "model.safetensors", {"format": "pt"})
    assert load(path).fingerprint == load(paths("gpt2-learned-positions")).fingerprint
    assert not by_transformers


def test_experts_are_left_to_transformers(tmp_path: Path, by_transformers: list[str]) -> None:
    load(saved(deepcopy(FURTHER["mixtral-experts"]), tmp_path), "none")
    assert by_transformers == [str(tmp_path)]


def test_the_file_is_not_kept_mapped(base: Path) -> None:
    kept = load(base, "none")
    mapped = Path("/proc/self/maps").read_text()
    assert str(base) not in mapped
    assert kept.model is not None


def without_a_layer(tensors: dict[str, Tensor]) -> None:
    for key in [key for key in tensors if ".layers.1." in key]:
        del tensors[key]


def damaged(path: Path) -> None:
    file = path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


CONTRADICTIONS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no head": (lambda path: rewrite(path, lambda t: t.pop("lm_head.weight")), r"no lm_head\.weight"),
    "no second layer": (lambda path: rewrite(path, without_a_layer), r"no model\.layers\.1.* and 6 more"),
    "no norm": (lambda path: rewrite(path, lambda t: t.pop("model.norm.weight")), r"no model\.norm\.weight"),
    "not a number": (
        lambda path: rewrite(path, lambda t: t["model.layers.2.mlp.up_proj.weight"][3, 4].fill_(torch.nan)),
        r"model\.layers\.2\.mlp\.up_proj\.weight that are not finite",
    ),
    "infinite embedding": (
        lambda path: rewrite(path, lambda t: t["model.embed_tokens.weight"][3, 4].fill_(-torch.inf)),
        r"embed_tokens\.weight that are not finite",
    ),
    "another width": (
        lambda path: configure(path, intermediate_size=96),
        r"up_proj\.weight is \(128, 64\) in the file, and \(96, 64\) by the config|contradicts its config",
    ),
    "a layer too many": (lambda path: configure(path, num_hidden_layers=2), r"have model\.layers\.2.*no place"),
    "a layer too few": (lambda path: configure(path, num_hidden_layers=4), r"no model\.layers\.3"),
    "a bias without a place": (
        lambda path: rewrite(path, lambda t: t.update({"model.layers.0.self_attn.q_proj.bias": torch.ones(64)})),
        r"q_proj\.bias.*no place",
    ),
    "fewer rows than tokens": (
        lambda path: (
            configure(path, vocab_size=200),
            rewrite(path, lambda t: t.update({k: t[k][:200].clone() for k in t if t[k].shape[0] == 261})),
        ),
        "an embedding of 200 rows: .* is token 200",
    ),
    "cut off": (damaged, r"model\.safetensors is damaged"),
    "an adapter": (lambda path: (path / "adapter_config.json").write_text("{}"), "directory of an adapter"),
    "no tokenizer": (
        lambda path: [file.unlink() for file in path.glob("token*")] + [(path / "chat_template.jinja").unlink()],
        "has no tokenizer",
    ),
}


@pytest.mark.parametrize("kind", ["nf4", "none"])
@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_tensors_that_the_file_lacks_are_refused_by_name(base: Path, case: str, kind: Quantization) -> None:
    change, match = CONTRADICTIONS[case]
    change(base)
    with pytest.raises(BaseModelError, match=match) as refusal:
        load(base, kind)
    assert refusal.value.hint


@pytest.fixture
def never_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a family whose tensors `transformers` converts."""
    monkeypatch.setattr("steerzo_edge.model.sources.checkpoint.by_own_names", lambda model, files: None)


@pytest.mark.usefixtures("never_streamed")
@pytest.mark.parametrize("case", [case for case in CONTRADICTIONS if case not in ("not a number", "cut off")])
def test_the_other_way_of_loading_refuses_the_same(base: Path, case: str) -> None:
    change, match = CONTRADICTIONS[case]
    change(base)
    with pytest.raises(BaseModelError, match="not finite" if "infinite" in case else match):
        load(base)
