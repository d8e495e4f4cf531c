"""What a base may consist of: numbers and settings, never code. Looked at before anything of it is loaded.

Pickled weights run code when they are read, and `auto_map` names Python files that come with the model. Neither is
ever run here; a base that comes with them is refused in words instead of half working without them.
"""

from pathlib import Path
from typing import Any, Final

from transformers import PretrainedConfig
from transformers.models.auto.tokenization_auto import get_tokenizer_config

from steerzo_edge.errors import BaseModelError
from steerzo_edge.model.hub import hub_token

PICKLED: Final = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.msgpack", "*.h5")


def check_model(source: str, revision: str | None) -> dict[str, Any]:
    """Refuses a base with code of its own, or without safetensors.

    Args:
        source: A hub id or the path of a directory.
        revision: Commit, tag or branch of a hub model.

    Returns:
        Its `config.json`.

    Raises:
        BaseModelError: Saying which file it is about.
        OSError: If there is no such base.
    """
    settings: dict[str, Any]
    settings, _ = PretrainedConfig.get_config_dict(source, revision=revision, token=hub_token(source))
    _check(settings, source, "config.json")
    directory = Path(source)
    if not directory.is_dir() or any(directory.glob("*.safetensors")):
        return settings
    pickled = sorted(path.name for pattern in PICKLED for path in directory.glob(pattern))
    if pickled:
        raise BaseModelError(
            f"{source} holds its weights as {pickled[0]} only, and reading that may run code",
            hint="Use a version with safetensors, or convert this one where you trust it (save_pretrained).",
        )
    return settings


def check_tokenizer(source: str, revision: str | None) -> None:
    """Refuses a tokenizer with code of its own.

    Args:
        source: A hub id or the path of a directory.
        revision: Commit, tag or branch of a hub model.

    Raises:
        BaseModelError: Saying which file it is about.
    """
    _check(
        get_tokenizer_config(source, revision=revision, token=hub_token(source)), source, "tokenizer_config.json"
    )


def _check(settings: dict[str, Any], source: str, file: str) -> None:
    if settings.get("auto_map"):
        raise BaseModelError(
            f"{source} comes with Python code of its own (auto_map in {file}), which is never run here",
            hint="Use a version of the model for an architecture that transformers knows; it has no auto_map.",
        )
