"""How a base was released: in 16 bits, or quantized already; and whether that is what the settings ask for.

A base that was saved quantized is loaded as it is. What its makers rounded cannot be rounded in another way, so
settings that ask for something else are refused in words rather than passed over.
"""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, Final

from steerzo_edge.errors import BaseModelError
from steerzo_edge.model.quantization import Quantization

INSTALL_GPTQ: Final = 'pip install "steerzo-edge[gptq]"'
_NEEDED_FOR_GPTQ: Final = ("gptqmodel", "optimum")


def released_as(settings: Mapping[str, Any], name: str) -> Quantization:
    """What a base's `config.json` says of its weights.

    Args:
        settings: Of the base.
        name: For messages.

    Raises:
        BaseModelError: If it is quantized in a way that is not loaded here.
    """
    found = settings.get("quantization_config")
    if not found:
        return "none"
    method = str(found.get("quant_method") or "bitsandbytes")
    if method == "gptq":
        return "gptq"
    kind = found.get("bnb_4bit_quant_type", "fp4")
    if method == "bitsandbytes" and found.get("load_in_8bit"):
        return "int8"
    if method == "bitsandbytes" and found.get("load_in_4bit") and kind in ("nf4", "fp4"):
        return kind  # type: ignore[no-any-return]
    raise BaseModelError(
        f"base model {name!r} was released quantized by {method!r}, which is not loaded here",
        hint="Use the 16-bit release of the model, or one quantized by bitsandbytes or GPTQ.",
    )


def check_released(released: Quantization, asked: Quantization, name: str) -> None:
    """Refuses settings that contradict the files.

    Args:
        released: As `released_as` found it.
        asked: The setting.
        name: For messages.

    Raises:
        BaseModelError: If they contradict each other, or what loads a GPTQ base is not installed.
    """
    if released == "none" and asked == "gptq":
        raise BaseModelError(
            f"base model {name!r} was not released in GPTQ, and this engine does not make it so",
            hint="Set quantization to nf4, fp4, int8 or none.",
        )
    if released not in ("none", asked):
        raise BaseModelError(
            f"base model {name!r} was released in {released}, and the settings ask for {asked}",
            hint=f"Set quantization to {released}, or use the 16-bit release of the model.",
        )
    missing = [package for package in _NEEDED_FOR_GPTQ if released == "gptq" and find_spec(package) is None]
    if missing:
        raise BaseModelError(
            f"base model {name!r} was released in GPTQ, and {missing[0]} is not installed", hint=INSTALL_GPTQ
        )
