"""Exports an adapter alone as a GGUF file, which llama.cpp applies to a GGUF of the base (`--lora`)."""

from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from steerzo_edge.errors import AdapterFileError
from steerzo_edge.estimate.anatomy import anatomy, load_config
from steerzo_edge.export.gguf_file import tensor_names, write_gguf
from steerzo_edge.export.shapes import GgufShape, gguf_shape
from steerzo_edge.model.adapter_check import check_adapter
from steerzo_edge.model.adapter_file import LAYER_TENSOR, WEIGHTS, read_config
from steerzo_edge.model.adapter_settings import PATTERNS, is_dora, scale_of


def export_gguf_adapter(adapter: Path, out: Path, name: str, *, revision: str | None = None) -> None:
    """Writes an adapter in float32; only the config of the base is read.

    Args:
        adapter: A PEFT directory.
        out: The file; must not exist.
        name: The base, as `load_base` takes it.
        revision: Commit, tag or branch of a hub model.

    Raises:
        ConflictError: If `out` exists, or the package gguf is missing.
        BaseModelError: If llama.cpp cannot compute what the base computes.
        AdapterFileError: If the adapter is no LoRA on this base's linear layers.
        OSError: If the disk is full or fails.
        StorageError: As OSError.
    """
    config = load_config(name, revision)
    shape = gguf_shape(config)
    if read_config(adapter).get("modules_to_save"):
        raise AdapterFileError(
            "the adapter contains full layers, and a GGUF adapter can contain low-rank pairs only",
            hint="Export the merged model: --format gguf.",
        )
    layers = {part.name: (part.inputs, part.outputs) for part in anatomy(config).projections}
    settings = check_adapter(adapter, layers)
    if is_dora(settings):
        raise AdapterFileError(
            "the adapter is a DoRA, and a GGUF adapter can contain low-rank pairs only",
            hint="Export the merged model: --format gguf.",
        )
    rank, alpha = int(settings["r"]), float(settings["lora_alpha"])
    facts: dict[str, Any] = {
        "general.type": "adapter",
        "general.name": adapter.name,
        "adapter.type": "lora",
        # llama.cpp divides alpha by the rank; a rank-stabilized adapter divides it by the square root.
        "adapter.lora.alpha": alpha * rank**0.5 if settings.get("use_rslora") else alpha,
    }
    tensors = _alike(load_file(adapter / WEIGHTS), settings, facts["adapter.lora.alpha"])
    write_gguf(out, shape.architecture, facts, adapter_tensors(tensors, shape))


def _alike(tensors: dict[str, Tensor], settings: dict[str, Any], alpha: float) -> dict[str, Tensor]:
    """Every B multiplied so that llama.cpp's one alpha, divided by the layer's rank, gives the layer's scale."""
    if not any(settings.get(key) for key in PATTERNS):
        return tensors
    found = dict(tensors)
    for key, tensor in tensors.items():
        place = LAYER_TENSOR.match(key)
        if place is not None and place["part"] == "lora_B":
            rank = tensor.shape[1]
            found[key] = tensor.float() * (scale_of(settings, place["layer"], rank) * rank / alpha)
    return found


def adapter_tensors(tensors: dict[str, Tensor], shape: GgufShape) -> dict[str, Tensor]:
    """Names an adapter's tensors as llama.cpp does, and puts their rows into its order.

    Args:
        tensors: Of a PEFT directory, already checked.
        shape: Of the base.
    """
    places = {key: place for key in tensors if (place := LAYER_TENSOR.match(key))}
    names = tensor_names(shape, sorted({f"{place['layer']}.weight" for place in places.values()}))
    found: dict[str, Tensor] = {}
    for key, place in places.items():
        name, tensor = names[f"{place['layer']}.weight"], tensors[key].float()
        if place["part"] == "lora_A":
            found[f"{name}.lora_a"] = tensor
        else:
            found[f"{name}.lora_b"] = shape.in_order(place["layer"], tensor)
    return found
