"""Exports an adapter as a PEFT directory that old versions of peft load too, from 0.5 (August 2023) on.

peft writes all of its settings into `adapter_config.json`, and some versions fail when they read one that they do
not know. Only the settings that adapters of this project need are written here, and version 0.5 knows each of
them.
"""

import shutil
from pathlib import Path
from typing import Final

from steerzo_edge.errors import ConflictError
from steerzo_edge.estimate.anatomy import bare_model, load_config
from steerzo_edge.model.adapter_check import check_adapter
from steerzo_edge.model.adapter_file import CONFIG, WEIGHTS
from steerzo_edge.model.layers import features, linear_layers
from steerzo_edge.model.weights.none import is_transposed
from steerzo_edge.storage.files import sync_directory, write_json

OLDEST: Final = "0.5.0"


def export_peft(adapter: Path, out: Path, name: str, *, revision: str | None = None) -> None:
    """Checks an adapter against a base, and writes it with only the settings that matter.

    Args:
        adapter: A PEFT directory, of this project or of any version of peft.
        out: Directory of the export; must not exist, or be empty.
        name: The base, as `load_base` takes it; only its config is read.
        revision: Commit, tag or branch of a hub model.

    Raises:
        ConflictError: If `out` exists and is not empty.
        BaseModelError: If the base's config cannot be read.
        AdapterFileError: If the adapter is no LoRA on this base's linear layers.
        OSError: If the disk is full or fails.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConflictError(f"{str(out)!r} exists already", hint="Name a new directory.")
    layers = linear_layers(bare_model(load_config(name, revision)))
    settings = check_adapter(adapter, {layer: features(module) for layer, module in layers.items()})
    transposed = any(is_transposed(layers[layer]) for layer in settings["target_modules"])
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir()
        shutil.copyfile(adapter / WEIGHTS, partial / WEIGHTS)
        write_json(
            partial / CONFIG,
            {**settings, "fan_in_fan_out": transposed, "base_model_name_or_path": name, "revision": revision},
        )
        partial.replace(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    sync_directory(out.parent)
