"""The frozen part of a subset on disk, so that a run goes on with its very bits.

It can be made again from rows, weights and seed; but sums of other threads, another torch or another kernel round
differently, and a journal's steps belong to the bits that they were measured with.
"""

from pathlib import Path

from torch import Tensor

from steerzo_edge.storage.sealed import load_sealed, save_sealed


def save_frozen(path: Path, frozen: Tensor, origin: str) -> None:
    """Writes a subset's frozen part.

    Args:
        path: The file; replaced whole.
        frozen: Flat float32.
        origin: What it was made from; `load_frozen` asks for the same.

    Raises:
        OSError: If the disk is full or fails.
    """
    save_sealed(path, {"frozen": frozen}, {"origin": origin})


def load_frozen(path: Path, origin: str) -> Tensor | None:
    """Reads what `save_frozen` wrote; None if it is missing, damaged, or of another origin.

    Args:
        path: The file.
        origin: What it must have been made from.
    """
    found = load_sealed(path)
    return found[1]["frozen"] if found is not None and found[0].get("origin") == origin else None
