"""Writes GGUF files atomically, and keeps one only if reading it back gives the same tensors and metadata.

The format and the names of tensors come from llama.cpp's package `gguf`, which is an optional dependency.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from steerzo_edge.errors import ConflictError, StorageError
from steerzo_edge.export.shapes import Fact, GgufShape
from steerzo_edge.storage.files import write_whole

INSTALL: Final = 'pip install "steerzo-edge[gguf]"'
_FILE_TYPES: Final = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 32}


def gguf_package() -> Any:
    """Imports the package `gguf`.

    Raises:
        ConflictError: If it is missing; the hint says how to install it.
    """
    try:
        import gguf
    except ImportError:
        raise ConflictError("GGUF files need the package gguf, which is not installed", hint=INSTALL) from None
    return gguf


def tensor_names(shape: GgufShape, names: Sequence[str]) -> dict[str, str]:
    """llama.cpp's names of a base's tensors.

    Args:
        shape: Of the base.
        names: The names of `transformers`, with ".weight" or ".bias".

    Raises:
        ConflictError: If llama.cpp has no name for one.
    """
    gguf = gguf_package()
    architecture = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == shape.architecture)
    known = gguf.get_tensor_name_map(architecture, shape.layers)
    found = {name: known.get_name(name, try_suffixes=(".weight", ".bias")) for name in names}
    missing = sorted(name for name, other in found.items() if other is None)
    if missing:
        raise ConflictError(f"llama.cpp has no name for {missing[0]!r} in {shape.architecture}")
    return found


def write_gguf(path: Path, architecture: str, facts: Mapping[str, Fact], tensors: Mapping[str, Tensor]) -> None:
    """Writes a file and reads it back.

    Args:
        path: Must not exist.
        architecture: llama.cpp's name of the family.
        facts: The metadata, by the keys of the format.
        tensors: By llama.cpp's names; matrices keep their type, vectors become float32.

    Raises:
        ConflictError: If `path` exists, or the package is missing.
        StorageError: If the file that is read back differs.
        OSError: If the disk is full or fails.
    """
    gguf = gguf_package()
    if path.exists():
        raise ConflictError(f"{str(path)!r} exists already", hint="Name a new file.")
    kept = {name: tensor.float() if tensor.ndim == 1 else tensor for name, tensor in tensors.items()}
    matrices = [tensor.dtype for tensor in kept.values() if tensor.ndim > 1]
    whole = {**facts, "general.file_type": _FILE_TYPES[matrices[0]]}
    path.parent.mkdir(parents=True, exist_ok=True)

    def write(partial: Path) -> None:
        _write(gguf, partial, architecture, whole, kept)
        _check(gguf, partial, whole, kept)

    write_whole(path, write)


def _write(
    gguf: Any, path: Path, architecture: str, facts: Mapping[str, Fact], tensors: Mapping[str, Tensor]
) -> None:
    kinds = gguf.GGUFValueType
    types = {bool: kinds.BOOL, int: kinds.UINT32, float: kinds.FLOAT32, str: kinds.STRING, list: kinds.ARRAY}
    writer = gguf.GGUFWriter(path, architecture)
    try:
        for key, value in facts.items():
            writer.add_key_value(key, value, types[type(value)])
        for name, tensor in tensors.items():
            writer.add_tensor(name, _bytes(tensor), raw_dtype=_kind(gguf, tensor))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


def _check(gguf: Any, path: Path, facts: Mapping[str, Fact], tensors: Mapping[str, Tensor]) -> None:
    read = gguf.GGUFReader(path)
    for key, value in facts.items():
        found = read.fields[key].contents() if key in read.fields else None
        same = found == np.float32(value) if isinstance(value, float) else found == value
        if not same:
            raise StorageError(f"{key!r} in the file differs from what was written")
    by_name = {tensor.name: tensor for tensor in read.tensors}
    if set(by_name) != set(tensors):
        raise StorageError("the file has other tensors than were written")
    for name, tensor in tensors.items():
        found = by_name[name]
        same = (
            [int(size) for size in found.shape] == list(reversed(tensor.shape))
            and found.tensor_type == _kind(gguf, tensor)
            and np.array_equal(found.data.view(np.uint8).ravel(), _bytes(tensor).ravel())
        )
        if not same:
            raise StorageError(f"tensor {name!r} in the file differs from what was written")


def _bytes(tensor: Tensor) -> Any:
    """A tensor's bytes, row by row: (..., D) to (..., D * itemsize) uint8."""
    return tensor.detach().contiguous().view(torch.uint8).numpy()


def _kind(gguf: Any, tensor: Tensor) -> Any:
    kinds = gguf.GGMLQuantizationType
    return {torch.float32: kinds.F32, torch.float16: kinds.F16, torch.bfloat16: kinds.BF16}[tensor.dtype]
