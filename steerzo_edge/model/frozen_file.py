"""Stores the frozen part of a subset on disk, so that a resumed run uses the same bits.

It could be computed again from rows, weights and seed, but another number of threads, another torch or another
kernel rounds differently, and the steps in a journal are valid only for the bits they were measured with.
"""

from pathlib import Path

from torch import Tensor

from steerzo_edge.storage.sealed import load_sealed, save_sealed


def save_frozen(path: Path, frozen: Tensor, origin: str) -> None:
    """Writes a subset's frozen part.

    Args:
        path: The file; replaced atomically.
        frozen: Flat float32.
        origin: Describes what it was made from; `load_frozen` compares it.

    Raises:
        OSError: If the disk is full or fails.
    """
    save_sealed(path, {"frozen": frozen}, {"origin": origin})


def load_frozen(path: Path, origin: str) -> Tensor | None:
    """Reads the file of `save_frozen`; None if it is missing, damaged, or has another origin.

    Args:
        path: The file.
        origin: As it was given to `save_frozen`.
    """
    found = load_sealed(path)
    return found[1]["frozen"] if found is not None and found[0].get("origin") == origin else None
