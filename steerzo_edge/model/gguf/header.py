"""The header of a GGUF file: what its metadata says, and where each tensor is.

"GGUF"  version  number of tensors  number of keys
key, type, value                    strings and arrays begin with their length
name, sizes, type, offset           of each tensor; the fastest-moving dimension is first
tensors                             from the next multiple of the alignment
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

from steerzo_edge.errors import BaseModelError

_VERSIONS: Final = (2, 3)
_SCALARS: Final = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"
}  # fmt: skip
_STRING, _ARRAY = 8, 9
_AGAIN: Final = "Fetch the file again; compare its size with the one that its publisher names."


@dataclass(frozen=True, slots=True)
class Place:
    """One tensor of a file.

    Args:
        shape: As torch orders it.
        kind: How its numbers are stored.
        begin: In the file, in bytes.
        size: In bytes.
    """

    shape: tuple[int, ...]
    kind: GGMLQuantizationType
    begin: int
    size: int


@dataclass(frozen=True, slots=True)
class Header:
    """A file's header.

    Args:
        path: The file.
        facts: Its metadata.
        tensors: By llama.cpp's names.
    """

    path: Path
    facts: dict[str, Any]
    tensors: dict[str, Place]

    @property
    def architecture(self) -> str:
        """llama.cpp's name of the family."""
        return str(self.facts.get("general.architecture", ""))

    def fact(self, key: str, default: Any = None) -> Any:
        """The value of an architecture's key, such as "block_count"."""
        return self.facts.get(f"{self.architecture}.{key}", default)


def read_header(path: Path, *, name: str) -> Header:
    """Reads the header, and compares its tensors with the size of the file.

    Args:
        path: The file.
        name: The base's name, for messages.

    Raises:
        BaseModelError: If it is no GGUF file, is cut off, or has tensors of an unknown type.
        OSError: If it cannot be read.
    """
    with path.open("rb") as file:
        first = file.read(4)
        if not first:
            raise BaseModelError(f"base model {name!r} is an empty file", hint=_AGAIN)
        if first != b"GGUF":
            raise BaseModelError(f"base model {name!r} is not a GGUF file", hint="It does not begin with GGUF.")
        try:
            return _header(path, file, name)
        except (struct.error, EOFError, ValueError, TypeError, ArithmeticError, RecursionError, MemoryError):
            raise BaseModelError(
                f"base model {name!r} is damaged or cut off: its header cannot be read", hint=_AGAIN
            ) from None


def _header(path: Path, file: BinaryIO, name: str) -> Header:
    version, tensors, keys = struct.unpack("<IQQ", file.read(20))
    if version not in _VERSIONS:
        raise BaseModelError(
            f"base model {name!r} is GGUF of version {version}, which cannot be read",
            hint="Versions 2 and 3, little-endian, can.",
        )
    facts: dict[str, Any] = {}
    for _ in range(keys):
        key = _string(file)
        facts[key] = _value(file, *struct.unpack("<I", file.read(4)))
    entries = [_entry(file, name) for _ in range(tensors)]
    alignment = int(facts.get("general.alignment", 32))
    start = -(-file.tell() // alignment) * alignment
    found = {}
    for key, shape, kind, offset in entries:
        found[key] = _place(shape, kind, start + offset, key, name)
    last = max(found, key=lambda key: found[key].begin + found[key].size, default=None)
    if last is not None and (end := found[last].begin + found[last].size) > (size := path.stat().st_size):
        raise BaseModelError(
            f"base model {name!r} is cut off: its tensor {last} ends at byte {end:,}, and the file has {size:,}",
            hint=_AGAIN,
        )
    return Header(path, facts, found)


def _entry(file: BinaryIO, name: str) -> tuple[str, tuple[int, ...], GGMLQuantizationType, int]:
    key = _string(file)
    (dimensions,) = struct.unpack("<I", file.read(4))
    shape = struct.unpack(f"<{dimensions}Q", file.read(8 * dimensions))
    number, offset = struct.unpack("<IQ", file.read(12))
    try:
        return key, tuple(reversed(shape)), GGMLQuantizationType(number), offset
    except ValueError:
        raise BaseModelError(
            f"base model {name!r} has a tensor {key} of type {number}, which is not known",
            hint="F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1 and the K-quants can be read.",
        ) from None


def _place(shape: tuple[int, ...], kind: GGMLQuantizationType, begin: int, key: str, name: str) -> Place:
    count, size = GGML_QUANT_SIZES[kind]
    if not shape or shape[-1] % count:
        raise BaseModelError(
            f"base model {name!r} has a tensor {key} of {shape}, which is no multiple of a block of {kind.name}",
            hint=_AGAIN,
        )
    blocks = shape[-1] // count
    for rows in shape[:-1]:
        blocks *= rows
    return Place(shape, kind, begin, blocks * size)


def _string(file: BinaryIO) -> str:
    (length,) = struct.unpack("<Q", file.read(8))
    return _bytes(file, length).decode()


def _bytes(file: BinaryIO, length: int) -> bytes:
    found = file.read(length)
    if len(found) < length:
        raise EOFError
    return found


def _value(file: BinaryIO, kind: int) -> Any:
    if kind == _STRING:
        return _string(file)
    if kind == _ARRAY:
        inner, count = struct.unpack("<IQ", file.read(12))
        if inner in _SCALARS:
            pattern = f"<{count}{_SCALARS[inner][1]}"
            return list(struct.unpack(pattern, _bytes(file, struct.calcsize(pattern))))
        return [_value(file, inner) for _ in range(count)]
    if kind not in _SCALARS:
        raise EOFError
    (found,) = struct.unpack(_SCALARS[kind], file.read(struct.calcsize(_SCALARS[kind])))
    return found
