"""Sealed tensor files: safetensors with a hash of their content.

For files that can be made again: one that is missing, incomplete or altered is treated as missing. A disk that
returns other bytes than were written must not change an adapter.
"""

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path

import safetensors
from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor

from steerzo_edge.storage.files import write_bytes

log = logging.getLogger(__name__)
# One metadata entry only: safetensors writes several in any order, and equal content should give equal bytes.
_SEAL = "seal"


def save_sealed(path: Path, tensors: Mapping[str, Tensor], notes: Mapping[str, str]) -> None:
    """Writes tensors and a hash of them.

    Args:
        path: The file; replaced atomically.
        tensors: By name; any shapes, on any device.
        notes: Stored with the tensors.

    Raises:
        OSError: If the disk is full or fails.
    """
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    seal = json.dumps({"notes": dict(notes), "sha256": _digest(kept, notes)}, sort_keys=True)
    write_tensors(path, kept, {_SEAL: seal})


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Writes a safetensors file atomically.

    Args:
        path: The file; replaced atomically.
        tensors: By name; contiguous.
        metadata: The file's own.

    Raises:
        OSError: If the disk is full or fails; safetensors' own writer would raise another error.
    """
    data = save(dict(tensors), metadata=dict(metadata))
    write_bytes(path, data)


def load_sealed(path: Path) -> tuple[dict[str, str], dict[str, Tensor]] | None:
    """Reads a file of `save_sealed`.

    Args:
        path: The file.

    Returns:
        The notes, and the tensors on the CPU; None if the file is missing or was altered.
    """
    if not path.exists():
        return None
    try:
        with safetensors.safe_open(path, "pt") as file:
            seal = json.loads(file.metadata()[_SEAL])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        notes: dict[str, str] = seal["notes"]
        if seal["sha256"] == _digest(tensors, notes):
            return notes, tensors
        log.warning("the content of %s does not match its hash; the file is made again", path)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        log.warning("%s cannot be read (%s); it is made again", path, error)
    return None


def _digest(tensors: Mapping[str, Tensor], notes: Mapping[str, str]) -> str:
    digest = hashlib.sha256(repr(sorted(notes.items())).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
