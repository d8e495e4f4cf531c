"""The frozen part of a subset on disk, so that a run goes on with its very bits.

It can be made again from rows, weights and seed; but sums of other threads, another torch or another kernel round
differently, and a journal's steps belong to the bits that they were measured with.
"""

import logging
from pathlib import Path

import safetensors
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from steerzo_edge.files import write_whole

log = logging.getLogger(__name__)


def save_frozen(path: Path, frozen: Tensor, origin: str) -> None:
    """Writes a subset's frozen part.

    Args:
        path: The file; replaced whole.
        frozen: Flat float32.
        origin: What it was made from; `load_frozen` asks for the same.

    Raises:
        OSError: If the disk is full or fails.
    """
    write_whole(path, lambda place: save_file({"frozen": frozen}, place, metadata={"origin": origin}))


def load_frozen(path: Path, origin: str) -> Tensor | None:
    """Reads what `save_frozen` wrote; None if it is missing, unreadable, or of another origin.

    Args:
        path: The file.
        origin: What it must have been made from.
    """
    if not path.exists():
        return None
    try:
        with safetensors.safe_open(path, "pt") as file:
            if file.metadata()["origin"] == origin:
                found: Tensor = file.get_tensor("frozen")
                return found
    except (OSError, SafetensorError, KeyError, TypeError) as error:
        log.warning("%s cannot be read (%s); it is made again", path, error)
    return None
