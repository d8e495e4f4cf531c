"""steerzo-edge: fine-tune quantized language models with forward passes only, on one small machine.

from steerzo_edge import load_base, load_profile, finetune, generate
"""

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from steerzo_edge.decoding.generate import generate as generate
    from steerzo_edge.model.load import load_base as load_base
    from steerzo_edge.settings.profile import load_profile as load_profile
    from steerzo_edge.training.loop import finetune as finetune

__version__ = "0.1.0"

_HOMES = {
    "finetune": "steerzo_edge.training.loop",
    "generate": "steerzo_edge.decoding.generate",
    "load_base": "steerzo_edge.model.load",
    "load_profile": "steerzo_edge.settings.profile",
}
__all__ = ["__version__", "finetune", "generate", "load_base", "load_profile"]

# bitsandbytes logs at import that an optional kernel package is missing; users of this project do not need it.
logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(
    lambda record: "kernels-community" not in record.getMessage()
)


def __getattr__(name: str) -> Any:
    """Loads the heavy parts when they are first asked for, so that `steerzo --help` is quick."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
