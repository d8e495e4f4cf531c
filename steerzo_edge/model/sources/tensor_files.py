"""The tensors of a checkpoint in safetensors, in one file or in shards, read one at a time."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from steerzo_edge.model.sources.streaming import Read

WHOLE = "model.safetensors"
INDEX = "model.safetensors.index.json"


def tensors_of(resolved: Callable[[str], Path | None]) -> dict[str, Read] | None:
    """How to read each tensor, by the name it has in the files; None if there is no checkpoint of this kind.

    Args:
        resolved: From the name of a file to where it is on this machine; None if there is no such file.

    Raises:
        OSError: If a file is missing or damaged.
    """
    if (whole := resolved(WHOLE)) is not None:
        return {key: partial(_read, whole, key) for key in _keys(whole)}
    index = resolved(INDEX)
    if index is None:
        return None
    try:
        places = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        shards = {shard: resolved(shard) for shard in sorted(set(places.values()))}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise OSError(f"{INDEX} does not say which file has which tensor") from None
    absent = [shard for shard, path in shards.items() if path is None]
    if absent:
        raise OSError(f"{INDEX} names {absent[0]}, and there is no such file")
    return {key: partial(_read, path, key) for path in shards.values() if path is not None for key in _keys(path)}


def _keys(path: Path) -> list[str]:
    try:
        with safe_open(path, "pt") as file:
            return list(file.keys())
    except SafetensorError as error:
        raise OSError(f"{path.name} is damaged: {error}") from error


def _read(path: Path, key: str) -> Tensor:
    """Opens the file for one tensor: a file that stays open keeps in memory what was read of it."""
    try:
        with safe_open(path, "pt") as file:
            found: Tensor = file.get_tensor(key)
    except SafetensorError as error:
        raise OSError(f"{path.name} is damaged: {error}") from error
    return found
