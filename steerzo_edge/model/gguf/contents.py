"""Whether a GGUF file holds one whole language model; the format is used for other things too."""

from typing import Final

from steerzo_edge.errors import BaseModelError
from steerzo_edge.model.gguf.header import Header

# general.type, or the architecture of files without one: what it is, and what to do.
_OTHERS: Final = {
    "adapter": ("a LoRA adapter", "Name the GGUF file of the model that it was made for."),
    "imatrix": ("an importance matrix, made for quantizing", "Name the GGUF file of the model."),
    "vocab": ("a vocabulary without weights", "Name the GGUF file of the model."),
    "mmproj": (
        "the part of a model that reads images or sound (mmproj)",
        "Name the GGUF file of the language model, which is published beside it.",
    ),
}
_SAME: Final = {"clip": "mmproj", "controlvector": "adapter"}


def check_contents(header: Header, *, name: str) -> None:
    """Refuses files that hold something else, or a part of a model.

    Args:
        header: Of the file.
        name: The base's name, for messages.

    Raises:
        BaseModelError: If it is no model, or one part of several.
    """
    kind = str(header.facts.get("general.type", "model"))
    other = _OTHERS.get(_SAME.get(header.architecture, kind))
    if other is not None:
        raise BaseModelError(f"base model {name!r} is {other[0]}, not a language model", hint=other[1])
    parts = header.facts.get("split.count", 1)
    if parts > 1:
        number = header.facts.get("split.no", 0) + 1
        raise BaseModelError(
            f"base model {name!r} is part {number} of {parts} of a split GGUF file, which cannot be read",
            hint="Join the parts: llama-gguf-split --merge FIRST-PART.gguf WHOLE.gguf (a program of llama.cpp).",
        )
