"""The setting `model.quantization`: which storages there are, and whether one fits the files of a base.

A base that was saved quantized is loaded as it is: rounded weights cannot be rounded again in another way. Settings
that ask for another storage are refused with a message.
"""

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final, Literal, get_args

from torch import nn

from steerzo_edge.errors import BaseModelError
from steerzo_edge.model.weights.storage import FrozenLinear, Storage

# One line each. The file is `weights/<value>.py`, and its STORAGE is used.
Quantization = Literal[
    "nf4",
    "fp4",
    "int8",
    "none",
    "gptq",
]


def _storage(kind: str) -> Storage:
    found: Storage = import_module(f"steerzo_edge.model.weights.{kind}").STORAGE
    return found


STORAGES: Final[Mapping[Quantization, Storage]] = {kind: _storage(kind) for kind in get_args(Quantization)}
# Classes of quantized layers may extend the plain one.
_QUANTIZED_FIRST: Final = sorted(STORAGES.values(), key=lambda storage: not storage.quantized)


def storage_of(module: nn.Module) -> Storage | None:
    """How a module stores its weight; None if it is no linear layer."""
    return next((storage for storage in _QUANTIZED_FIRST if storage.matches(module)), None)


def frozen_linear(module: nn.Module) -> FrozenLinear:
    """The products of a frozen linear layer.

    Args:
        module: Stored in one of `STORAGES`.
    """
    storage = storage_of(module)
    assert storage is not None
    return storage.linear(module)


def released_as(settings: Mapping[str, Any], name: str) -> Quantization:
    """The storage that a base was saved in, by its `config.json`.

    Args:
        settings: The content of that file.
        name: The base's name, for messages.

    Raises:
        BaseModelError: If it is quantized in a way that cannot be loaded here.
    """
    config: Mapping[str, Any] = settings.get("quantization_config") or {}
    for kind, storage in STORAGES.items():
        if storage.is_released(config):
            return kind
    method = str(config.get("quant_method") or "bitsandbytes")
    raise BaseModelError(
        f"base model {name!r} was released quantized by {method!r}, which cannot be loaded here",
        hint="Use the 16-bit release of the model, or one quantized by bitsandbytes or GPTQ.",
    )


def check_released(released: Quantization, asked: Quantization, name: str) -> None:
    """Refuses settings that contradict the files.

    Args:
        released: As `released_as` found it.
        asked: The setting.
        name: The base's name, for messages.

    Raises:
        BaseModelError: If they contradict each other, or a package that loads such a base is not installed.
    """
    storage = STORAGES[asked]
    if not STORAGES[released].quantized and not storage.can_quantize:
        possible = [kind for kind, other in STORAGES.items() if other.can_quantize]
        raise BaseModelError(
            f"base model {name!r} was not released in {asked.upper()}, and this engine does not quantize to it",
            hint=f"Set quantization to {', '.join(possible[:-1])} or {possible[-1]}.",
        )
    if STORAGES[released].quantized and released != asked:
        raise BaseModelError(
            f"base model {name!r} was released in {released}, and the settings ask for {asked}",
            hint=f"Set quantization to {released}, or use the 16-bit release of the model.",
        )
    missing = [package for package in storage.packages if find_spec(package) is None]
    if missing:
        raise BaseModelError(
            f"base model {name!r} cannot be loaded in {asked}: {missing[0]} is not installed", hint=storage.install
        )
