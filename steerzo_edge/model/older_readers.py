"""Adds settings to a checkpoint so that `transformers` 4, and software built on it, reads it correctly.

`transformers` 5 stores the settings of positions under a new key, and its tokenizer class has a new name. Version 4
ignores the first, and then computes other positions than the model was trained with; the second makes it fail. Both
versions read the settings that are added here.
"""

import json
from pathlib import Path
from typing import Any

from steerzo_edge.storage.files import write_json


def add_old_settings(directory: Path) -> None:
    """Adds the settings of version 4 to the files of a checkpoint.

    Args:
        directory: With `config.json` and the tokenizer's files.

    Raises:
        OSError: If the disk is full or fails.
    """
    _change(directory / "config.json", _with_old_positions)
    _change(directory / "tokenizer_config.json", _with_old_tokenizer)


def _change(path: Path, change: Any) -> None:
    if path.is_file():
        write_json(path, change(json.loads(path.read_text(encoding="utf-8"))))


def _with_old_positions(settings: dict[str, Any]) -> dict[str, Any]:
    positions = settings.get("rope_parameters")
    if not isinstance(positions, dict) or "rope_theta" not in positions:
        return settings  # none; or one for each kind of layer, which version 4 stores differently for each family
    scaling = {key: value for key, value in positions.items() if key not in ("rope_theta", "partial_rotary_factor")}
    settings = {**settings, "rope_theta": positions["rope_theta"]}
    if "partial_rotary_factor" in positions:
        settings["partial_rotary_factor"] = positions["partial_rotary_factor"]
    if positions.get("rope_type", "default") != "default":
        settings["rope_scaling"] = scaling
    return settings


def _with_old_tokenizer(settings: dict[str, Any]) -> dict[str, Any]:
    settings = {key: value for key, value in settings.items() if key not in ("is_local", "local_files_only")}
    if settings.get("tokenizer_class") == "TokenizersBackend":
        settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    further = settings.get("extra_special_tokens")
    if isinstance(further, list):
        del settings["extra_special_tokens"]
        settings["additional_special_tokens"] = further
    return settings
