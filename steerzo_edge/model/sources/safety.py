"""A base consists of numbers and settings, never of code. This is checked before any of it is loaded.

Pickled weights run code when they are read, and `auto_map` names Python files that come with the model. Neither is
ever run here; a base that comes with them is refused with a message, because it would only half work without them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from steerzo_edge.errors import BaseModelError

PICKLED: Final = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.msgpack", "*.h5")


def refuse_code(settings: Mapping[str, Any], place: str, file: str) -> None:
    """Refuses a base or tokenizer with code of its own.

    Args:
        settings: The content of `file`.
        place: Where the file is, for the message.
        file: "config.json" or "tokenizer_config.json".

    Raises:
        BaseModelError: If the settings name Python files.
    """
    if settings.get("auto_map"):
        raise BaseModelError(
            f"{place} comes with Python code of its own (auto_map in {file}), which is never run here",
            hint="Use a version of the model for an architecture that transformers knows; it has no auto_map.",
        )


def refuse_pickles(directory: Path) -> None:
    """Refuses a directory whose weights are pickled.

    Args:
        directory: Of a checkpoint; for what is no directory, nothing is checked.

    Raises:
        BaseModelError: If there are pickled weights and no safetensors.
    """
    if not directory.is_dir() or any(directory.glob("*.safetensors")):
        return
    pickled = sorted(path.name for pattern in PICKLED for path in directory.glob(pattern))
    if pickled:
        raise BaseModelError(
            f"{directory} holds its weights as {pickled[0]} only, and reading that may run code",
            hint="Use a version with safetensors, or convert this one where you trust it (save_pretrained).",
        )


def refuse_adapter(directory: Path, name: str) -> None:
    """Refuses the directory of an adapter: `transformers` would load its base, if it names one, and add it.

    Args:
        directory: Of a checkpoint; for what is no directory, nothing is checked.
        name: The base's name, for messages.

    Raises:
        BaseModelError: If the directory holds an adapter.
    """
    if (directory / "adapter_config.json").is_file():
        raise BaseModelError(
            f"base model {name!r} is the directory of an adapter: it holds adapter_config.json",
            hint="Name the base that the adapter was trained on, and give this directory as the adapter.",
        )
