"""What a packed file holds: a loaded base's tensors, config, tokenizer, and how it was made."""

import hashlib
import json
import tempfile
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from steerzo_edge.errors import BaseModelError
from steerzo_edge.model.base import Base
from steerzo_edge.model.packed.file import FORMAT, write_packed
from steerzo_edge.model.quantization import STORAGES, storage_of

TOKENIZER: Final = "tokenizer/"
"""Before the names of the tokenizer's files, which are kept as tensors of bytes."""
_PACKAGES: Final = ("steerzo-edge", "torch", "transformers", "tokenizers", "bitsandbytes")
_WRAPPED: Final = ".base."
_TRIED: Final = ("The boats came home; it was 12:45.", "  Größe, naïve café\n\tdef f(x): return x + 1")
"""Texts whose tokens must be the same after the tokenizer was written and read again."""


def versions(device: torch.device) -> dict[str, str]:
    """Everything that decides whether a base is stored with the same bits, and computes what it computed.

    Args:
        device: Where it is: kernels of another device may round its codes in another way.
    """
    return {name: _version(name) for name in _PACKAGES} | {"device": device.type}


@cache  # 10 ms each: the directory of installed packages is searched
def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # used from a directory of sources
        return "not installed"


def check_restorable(base: Base) -> None:
    """Refuses a base that could not be opened again.

    Raises:
        BaseModelError: If its storage depends on the machine.
    """
    if not STORAGES[base.quantization].can_restore:
        raise BaseModelError(
            f"base model {base.name!r} is stored in {base.quantization}, which cannot be packed",
            hint="Bases in nf4, fp4, int8 or 16 bits can.",
        )


def packed_bytes(base: Base) -> int:
    """About the size of a base's packed file, without its tokenizer."""
    return sum(tensor.nbytes for tensor in _tensors(base).values())


def pack_base(base: Base, tokenizer: PreTrainedTokenizerBase, path: Path, *, content: str | None = None) -> None:
    """Writes a base's packed file.

    Args:
        base: Loaded, and checked by its first forward; not merged with an adapter.
        tokenizer: Of its source, as it was released.
        path: The file; replaced atomically.
        content: Hash of the files that it was loaded from, if it is known.

    Raises:
        BaseModelError: If its storage cannot be packed, or its tokenizer is another one once it is read again.
        OSError: If the disk is full or fails; nothing is left then.
    """
    check_restorable(base)
    tensors = _tensors(base)
    files = _tokenizer_files(tokenizer, base.name)
    notes = {
        "format": FORMAT,
        "source": {"name": base.name, "revision": base.revision, "content": content},
        "quantization": base.quantization,
        "compute_dtype": str(base.compute_dtype).removeprefix("torch."),
        "fingerprint": base.fingerprint,
        "versions": versions(base.device),
        "config": json.loads(base.model.config.to_json_string(use_diff=False)),
        "generation_config": json.loads(base.model.generation_config.to_json_string(use_diff=False)),
        "layers": _quantized_layers(base),
    }
    write_packed(path, notes, tensors | {TOKENIZER + name: _bytes(data) for name, data in files.items()})


def _tensors(base: Base) -> dict[str, Tensor]:
    """By the names that the model's tensors have without adapter bank; of those that share memory, the first."""
    found: dict[str, Tensor] = {}
    places = set()
    for name, tensor in base.model.state_dict().items():
        place = (tensor.data_ptr(), tensor.shape, tensor.dtype)
        if tensor.numel() and place in places:
            continue
        places.add(place)
        found[_own_name(name, base)] = tensor
    return found


def _own_name(name: str, base: Base) -> str:
    owner, wrapped, rest = name.partition(_WRAPPED)
    return f"{owner}.{rest}" if wrapped and owner in base.bank.layers else name


def _quantized_layers(base: Base) -> list[str]:
    """Names of all modules whose weight is stored as codes, an output head included."""
    wrapped = {f"{name}.base": name for name in base.bank.layers}
    found = []
    for name, module in base.model.named_modules():
        storage = storage_of(module)
        if storage is not None and storage.quantized:
            found.append(wrapped.get(name, name))
    return found


def _tokenizer_files(tokenizer: PreTrainedTokenizerBase, name: str) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place)
        tokenizer.save_pretrained(directory)
        again = AutoTokenizer.from_pretrained(directory, trust_remote_code=False)
        files = {
            str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()
        }
    if _facts(again) != _facts(tokenizer):
        raise BaseModelError(
            f"base model {name!r} has a tokenizer that is another one once it was written and read again",
            hint="The base works from its own files; only packing it does not.",
        )
    return files


def _facts(tokenizer: PreTrainedTokenizerBase) -> tuple[object, ...]:
    """What a tokenizer does, as far as it can be compared."""
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    rules = tokenizer.get_vocab() if backend is None else hashlib.sha256(backend.to_str().encode()).digest()
    ids = tuple(tuple(tokenizer.encode(text)) for text in _TRIED)
    return rules, ids, tokenizer.special_tokens_map, tokenizer.chat_template, tokenizer.padding_side


def _bytes(data: bytes) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)
