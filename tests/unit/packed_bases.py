"""What the tests of packed bases share: bases of every kind, and what two of them must have in common."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from steerzo_edge.model.base import Base
from steerzo_edge.model.fingerprint import fingerprint
from steerzo_edge.model.load import load_base
from steerzo_edge.model.packed.cache import PackedCache
from steerzo_edge.model.packed.contents import pack_base
from steerzo_edge.model.quantization import Quantization
from steerzo_edge.model.sources.registry import source_of

MOST = 1 << 30


def load(name: Path | str, kind: Quantization = "nf4", cache: PackedCache | None = None) -> Base:
    return load_base(str(name), quantization=kind, compute_dtype=torch.bfloat16, device="cpu", cache=cache)


def cache_in(directory: Path, most_bytes: int = MOST) -> PackedCache:
    return PackedCache(directory, most_bytes, least_free_bytes=0)


def pack(base: Base, path: Path) -> Path:
    """Packs a base that was loaded from its source."""
    pack_base(base, source_of(base.name).tokenizer(), path)
    return path


def packed_files(directory: Path) -> list[Path]:
    """Everything in a cache but the hashes of its sources."""
    return [path for path in directory.iterdir() if path.name != "hashes.json"]


def unwrapped(base: Base) -> PreTrainedModel:
    """Its model without the adapter bank, as a source gives it."""
    for name, layer in base.bank.layers.items():
        base.model.set_submodule(name, layer.base)
    return base.model


def assert_same(found: Base, expected: Base) -> None:
    """The same bits everywhere, and the same config, tokenizer and logits."""
    ids = torch.arange(5, 25).unsqueeze(0)
    with torch.inference_mode():
        assert torch.equal(found.model(input_ids=ids).logits, expected.model(input_ids=ids).logits)
    assert found.fingerprint == expected.fingerprint
    assert found.quantization == expected.quantization
    assert found.end_tokens == expected.end_tokens
    assert found.tokenizer.backend_tokenizer.to_str() == expected.tokenizer.backend_tokenizer.to_str()
    assert found.tokenizer.special_tokens_map == expected.tokenizer.special_tokens_map
    assert found.tokenizer.chat_template == expected.tokenizer.chat_template
    assert found.model.generation_config.to_dict() == expected.model.generation_config.to_dict()
    assert _settings(found) == _settings(expected)
    one, other = unwrapped(found), unwrapped(expected)
    assert type(one) is type(other)
    assert fingerprint(one) == found.fingerprint  # not only as it was noted
    _assert_equal(dict(one.state_dict()), dict(other.state_dict()))
    _assert_equal(dict(one.named_buffers()), dict(other.named_buffers()))


def _settings(base: Base) -> dict[str, Any]:
    found: dict[str, Any] = base.model.config.to_dict()
    return {key: value for key, value in found.items() if key not in ("_name_or_path", "quantization_config")}


def _assert_equal(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype, name
        assert torch.equal(found[name], tensor), name


def is_mapped(path: Path) -> bool:
    """Whether this process has a file mapped."""
    return str(path) in Path("/proc/self/maps").read_text()
