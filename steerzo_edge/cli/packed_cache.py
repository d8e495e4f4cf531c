"""Bases of the commands without a server, and the packed copies that they keep for one user of this machine."""

import os
from pathlib import Path
from typing import Final

from steerzo_edge.errors import InputError
from steerzo_edge.model.base import Base
from steerzo_edge.model.load import load_base
from steerzo_edge.model.packed.cache import MOST_BYTES, PackedCache
from steerzo_edge.settings.sections import ModelConfig

DIRECTORY: Final = "STEERZO_PACKED_DIR"
LIMIT: Final = "STEERZO_MAX_PACKED_BYTES"


def loaded_base(model: ModelConfig, cache: PackedCache | None, *, allow_control_tokens: bool = False) -> Base:
    """Loads the base that settings name.

    Args:
        model: The settings.
        cache: As in `load_base`.
        allow_control_tokens: As in `load_base`.
    """
    return load_base(
        model.id,
        quantization=model.quantization,
        compute_dtype=model.dtype,
        revision=model.revision,
        cache=cache,
        allow_control_tokens=allow_control_tokens,
    )


def user_cache(directory: Path | None = None) -> PackedCache | None:
    """The cache; None if it is turned off.

    Args:
        directory: Instead of STEERZO_PACKED_DIR, or `steerzo/packed` in the user's cache directory.

    Raises:
        InputError: If STEERZO_MAX_PACKED_BYTES is no number of bytes.
    """
    limit = os.environ.get(LIMIT) or str(MOST_BYTES)
    if not limit.isdecimal():
        raise InputError(f"{LIMIT} is {limit!r}, and it must be a number of bytes", hint="0 turns the cache off.")
    return PackedCache(directory or _directory(), int(limit)) if int(limit) else None


def _directory() -> Path:
    named = os.environ.get(DIRECTORY)
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "steerzo" / "packed"
