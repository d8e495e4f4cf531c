"""What `steerzo base` does. See `base.py`."""

import json
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import typer

from steerzo_edge.cli.packed_cache import LIMIT, loaded_base, user_cache
from steerzo_edge.errors import ConflictError, InputError, NotFoundError, StorageError
from steerzo_edge.model.load import default_device
from steerzo_edge.model.packed.cache import Kept, PackedCache
from steerzo_edge.model.packed.contents import pack_base
from steerzo_edge.model.packed.file import SUFFIX
from steerzo_edge.model.sources.registry import source_of
from steerzo_edge.settings.sections import ModelConfig
from steerzo_edge.storage.claimed import remove_abandoned


def pack_command(
    *,
    name: str,
    revision: str | None,
    quantization: str,
    compute_dtype: str,
    to: Path | None,
    directory: Path | None,
    as_json: bool,
) -> None:
    """Loads the base from its source, checks it, and writes it."""
    model = ModelConfig.parse(
        {"id": name, "revision": revision, "quantization": quantization, "compute_dtype": compute_dtype},
        where="options",
    )
    if to is None:
        path, was_there = _into_cache(model, _cache(directory))
    else:
        path, was_there = _into_file(model, to, directory), False
    size = path.stat().st_size
    if as_json:
        typer.echo(json.dumps({"path": str(path), "base": name, "bytes": size, "was_there": was_there}))
    else:
        typer.echo(f"{path}: {name} in {quantization}, {_mib(size)}{', packed before' if was_there else ''}")


def list_command(*, directory: Path | None, as_json: bool) -> None:
    """Prints a line for each packed copy."""
    for kept in _cache(directory).kept():
        if as_json:
            typer.echo(json.dumps(_facts(kept)))
        else:
            facts = _facts(kept)
            stored = f"{facts['quantization']}, {facts['compute_dtype']}, {_mib(kept.size)}"
            used = f"used {facts['used']}{' (in use)' if kept.in_use else ''}"
            typer.echo(f"{kept.key}  {kept.source} in {stored}, {used}")


def drop_command(*, name: str | None, every: bool, directory: Path | None, as_json: bool) -> None:
    """Deletes the copies that are meant.

    Raises:
        InputError: If neither a name nor all are given, or both.
        NotFoundError: If there is no such copy.
        ConflictError: If one of them is in use.
    """
    if (name is None) != every:
        raise InputError("name a packed copy, or give --all", hint="`steerzo base list` prints their names.")
    cache = _cache(directory)
    meant = [kept for kept in cache.kept() if every or name in (kept.key, kept.source)]
    if not meant and not every:
        raise NotFoundError(f"there is no packed copy {name!r}", hint="`steerzo base list` prints their names.")
    in_use = []
    for kept in meant:
        if not cache.drop(kept):
            in_use.append(kept)
        elif as_json:
            typer.echo(json.dumps({"dropped": kept.key, "bytes": kept.size}))
        else:
            typer.echo(f"dropped {kept.key}: {kept.source}, {_mib(kept.size)}")
    if in_use:
        raise ConflictError(f"{in_use[0].key} ({in_use[0].source}) is in use", hint="Stop the process first.")


def _into_cache(model: ModelConfig, cache: PackedCache) -> tuple[Path, bool]:
    source = source_of(model.id, model.revision)
    device = torch.device(default_device())
    place = cache.place(source, model.quantization, model.dtype, device)
    if place is None:
        loaded_base(model, None)  # says what is wrong with the base, if anything is
        raise InputError(
            f"no packed copy of {model.id!r} in {model.quantization} is kept in {cache.directory}",
            hint="Name a file: --to FILE.packed. The cache has quantized bases, and not the bundled one.",
        )
    if place.path.exists():
        loaded_base(model, cache)  # one that is damaged is packed again
        return place.path, True
    cache.add(loaded_base(model, None), source, place)
    return place.path, False


def _into_file(model: ModelConfig, path: Path, directory: Path | None) -> Path:
    if path.suffix != SUFFIX or not path.parent.is_dir():
        raise InputError(
            f"--to {str(path)!r} is no file that ends in {SUFFIX}, in a directory that exists",
            hint=f"For example --to {path.stem or 'base'}{SUFFIX}",
        )
    source = source_of(model.id, model.revision)
    base = loaded_base(model, None)
    cache, content = user_cache(directory), None
    with suppress(OSError):  # a cache that cannot be written
        content = None if cache is None else cache.content_hash(source)
    remove_abandoned(path.parent, path.name)
    try:
        pack_base(base, source.tokenizer(), path, content=content)
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror or error}") from error
    return path


def _cache(directory: Path | None) -> PackedCache:
    cache = user_cache(directory)
    if cache is None:
        raise InputError("the cache of packed bases is turned off", hint=f"{LIMIT} is 0; unset it.")
    return cache


def _facts(kept: Kept) -> dict[str, Any]:
    return {
        "key": kept.key,
        "base": kept.source,
        "quantization": kept.notes.get("quantization", "?"),
        "compute_dtype": kept.notes.get("compute_dtype", "?"),
        "bytes": kept.size,
        "used": datetime.fromtimestamp(kept.used, UTC).isoformat(timespec="seconds"),
        "in_use": kept.in_use,
    }


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.1f} MiB"
