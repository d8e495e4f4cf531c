"""The container of a packed base: one safetensors file with notes and a hash of all its bytes.

8 bytes       length of the header
header        JSON: first the hash, then the notes, then type, shape and place of each tensor
tensors       those whose size is a multiple of 64 bytes first, so that each of them begins at one

It is written here because the library's own writer holds all tensors in memory a second time; the library reads it.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from steerzo_edge.storage.claimed import Claim, written_whole
from steerzo_edge.storage.digest import PIECE, Digest, digest_of

SUFFIX: Final = ".packed"
FORMAT: Final = 1
_BEGINNING: Final = b'{"__metadata__":{"packed_sha256":"'
_HASH_AT: Final = 8 + len(_BEGINNING)
_HASH_END: Final = _HASH_AT + 64
_NO_HASH: Final = b"0" * 64
_ALIGNMENT: Final = 64
_MOST_HEADER: Final = 100 << 20  # of safetensors
_TYPES: Final = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
    torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip


class DamagedError(Exception):
    """The file is not what was written, or no packed base at all; the message is the end of a sentence."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A packed file whose hash was verified.

    Args:
        notes: As they were written.
        tensors: By name; views of the file, which is mapped and not read. Writing to one changes memory only.
        claim: On the file: until it is released, no cache drops the file.
    """

    notes: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    claim: Claim


def write_packed(path: Path, notes: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Writes a packed file, one tensor at a time; equal content gives equal bytes.

    Args:
        path: The file; replaced atomically.
        notes: JSON-ready.
        tensors: By name; any shapes, on any device.

    Raises:
        OSError: If the disk is full or fails; nothing is left then.
    """
    order = sorted(tensors, key=lambda name: (tensors[name].nbytes % _ALIGNMENT > 0, -tensors[name].itemsize, name))
    header = _header(notes, {name: tensors[name] for name in order})
    digest = Digest(first=_without_hash)
    with written_whole(path) as file:
        _put(file, digest, memoryview(header))
        for name in order:
            if tensors[name].nbytes:
                _put(file, digest, _bytes_of(tensors[name]))
        file.seek(_HASH_AT)
        file.write(digest.hexdigest().encode())


def open_packed(path: Path) -> Opened:
    """Verifies a packed file and maps its tensors.

    Args:
        path: The file.

    Raises:
        DamagedError: If its bytes do not match its hash, or it is no packed base.
        OSError: If it cannot be read.
    """
    claim = Claim(path)
    notes = _verified(claim.handle)
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise DamagedError(f"is damaged: {error}") from error
    if os.stat(path).st_ino != os.fstat(claim.handle).st_ino:
        raise DamagedError("was replaced while it was opened")
    return Opened(notes, tensors, claim)


def read_notes(path: Path) -> Mapping[str, Any]:
    """The notes of a packed file, not verified: for lists of files.

    Args:
        path: The file.

    Raises:
        DamagedError: If it is no packed base.
        OSError: If it cannot be read.
    """
    with path.open("rb") as file:
        return _notes(file.fileno())


def _put(file: BinaryIO, digest: Digest, data: memoryview) -> None:
    for begin in range(0, len(data), PIECE):
        part = data[begin : begin + PIECE]
        file.write(part)
        digest.update(part)


def _bytes_of(tensor: Tensor) -> memoryview:
    raw: Any = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
    return memoryview(raw)


def _header(notes: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> bytes:
    text = json.dumps(notes, sort_keys=True)
    entries, begin = {}, 0
    for name, tensor in tensors.items():
        end = begin + tensor.nbytes
        entries[name] = {
            "dtype": _TYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]
        }  # fmt: skip
        begin = end
    rest = f'","packed":{json.dumps(text)}}},{json.dumps(entries)[1:]}'
    body = _BEGINNING + _NO_HASH + rest.encode()
    body += b" " * (-(8 + len(body)) % _ALIGNMENT)
    return len(body).to_bytes(8, "little") + body


def _without_hash(piece: bytes) -> bytes:
    return piece[:_HASH_AT] + _NO_HASH + piece[_HASH_END:]


def _verified(handle: int) -> Mapping[str, Any]:
    notes = _notes(handle)
    if digest_of(handle, first=_without_hash).encode() != os.pread(handle, 64, _HASH_AT):
        raise DamagedError("is damaged: its bytes do not match its hash")
    return notes


def _notes(handle: int) -> Mapping[str, Any]:
    start = os.pread(handle, _HASH_AT, 0)
    size = int.from_bytes(start[:8], "little")
    if start[8:] != _BEGINNING or size > _MOST_HEADER:
        raise DamagedError("is not a packed base")
    try:
        header = json.loads(os.pread(handle, size, 8))
        notes = json.loads(header["__metadata__"]["packed"])
        found = notes["format"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise DamagedError("is damaged: its header cannot be read") from None
    if found != FORMAT:
        raise DamagedError(f"was packed in format {found}, and this version reads format {FORMAT}")
    return notes  # type: ignore[no-any-return]
