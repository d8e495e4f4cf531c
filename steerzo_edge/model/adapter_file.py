"""Adapters on disk, in the format of PEFT: `peft` loads the files written here, and its files load here.

adapter_config.json           rank, alpha, target modules
adapter_model.safetensors     float32; equal adapters give equal bytes
"""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from steerzo_edge.errors import AdapterFileError
from steerzo_edge.model.adapter_settings import changes_the_base, is_dora, pattern_faults, scale_of
from steerzo_edge.model.bank import BankLinear
from steerzo_edge.model.base import Base
from steerzo_edge.model.patches import DoraPatch, LoraPatch, Patch, Patches, WeightPatch
from steerzo_edge.model.subset import Subset
from steerzo_edge.model.weights.none import is_transposed
from steerzo_edge.storage.files import sync_directory, write_json
from steerzo_edge.storage.sealed import write_tensors

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
# The name of a tensor in an adapter's weights file.
LAYER_TENSOR = re.compile(
    r"^base_model\.model\.(?P<layer>.+?)\.(?P<part>lora_A|lora_B|lora_magnitude_vector|weight)(\.weight)?$"
)


def save_adapter(directory: Path, subset: Subset, base: Base) -> str:
    """Writes a PEFT directory.

    Args:
        directory: Made if missing; each file in it is replaced as a whole.
        subset: The trained parameters.
        base: The base they were trained on.

    Returns:
        sha256 of the weights file.
    """
    directory.mkdir(parents=True, exist_ok=True)
    write_tensors(directory / WEIGHTS, subset.export(), {"format": "pt"})
    write_json(
        directory / CONFIG,
        {
            **subset.peft_config(),
            # peft must be told that GPT-2 stores its weights transposed.
            "fan_in_fan_out": any(is_transposed(base.bank.layers[slot.layer].base) for slot in subset.slots),
            "base_model_name_or_path": base.name,
            "revision": base.revision,
        },
    )
    sync_directory(directory.parent)
    return file_sha256(directory / WEIGHTS)


def load_adapter(directory: Path, base: Base) -> Patches:
    """Reads a PEFT directory as patches of one version.

    Args:
        directory: With `adapter_config.json` and `adapter_model.safetensors`.
        base: Its layers must fit.

    Raises:
        AdapterFileError: If a file is missing or damaged, or a tensor fits no layer of the base.
    """
    config = _config(directory)
    try:
        tensors = load_file(directory / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise AdapterFileError(f"{WEIGHTS} cannot be read: {error}") from None
    parts: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        found = LAYER_TENSOR.match(key)
        if found is None or found["layer"] not in base.bank.layers:
            raise AdapterFileError(f"tensor {key!r} belongs to no linear layer of base model {base.name!r}")
        parts.setdefault(found["layer"], {})[found["part"]] = tensor
    return {layer: _patch(layer, own, config, base) for layer, own in parts.items()}


def file_sha256(path: Path) -> str:
    """Hash of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_config(directory: Path) -> dict[str, Any]:
    """Reads the settings of a PEFT directory, without checking them.

    Raises:
        AdapterFileError: If the file is missing, or is not a JSON object.
    """
    try:
        config = json.loads((directory / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise AdapterFileError(f"{CONFIG} cannot be read: {error}") from None
    if not isinstance(config, dict):
        raise AdapterFileError(f"{CONFIG} is not a JSON object")
    return config


def _config(directory: Path) -> dict[str, Any]:
    config = read_config(directory)
    if config.get("peft_type") != "LORA":
        raise AdapterFileError(f"{CONFIG} does not describe a LoRA")
    if config.get("bias", "none") != "none":
        raise AdapterFileError("LoRA with trained biases is not supported")
    if not isinstance(config.get("lora_alpha"), int | float):
        raise AdapterFileError(f"{CONFIG} has no lora_alpha")
    if changes_the_base(config):
        raise AdapterFileError(
            f"init_lora_weights is {config['init_lora_weights']!r}: that start may have changed the base too, and "
            "the file does not have the changed weights",
            hint="Convert the adapter to a plain LoRA with peft.",
        )
    fault = next(pattern_faults(config), None)
    if fault is not None:
        raise AdapterFileError(f"{CONFIG}, {fault[0]}: {fault[1]}")
    return config


def _patch(layer: str, parts: dict[str, Tensor], config: dict[str, Any], base: Base) -> Patch:
    target = base.bank.layers[layer]
    shape = (target.out_features, target.in_features)
    made = {name: tensor.to(base.device, base.compute_dtype).unsqueeze(0) for name, tensor in parts.items()}
    if "weight" in made:
        _expect(layer, parts["weight"], shape)
        bias = target.bias
        return WeightPatch(made["weight"], None if bias is None else bias.to(base.compute_dtype))
    if "lora_A" not in made or "lora_B" not in made:
        raise AdapterFileError(f"layer {layer!r} has only one of lora_A and lora_B")
    rank = parts["lora_A"].shape[0]
    _expect(layer, parts["lora_A"], (rank, shape[1]))
    _expect(layer, parts["lora_B"], (shape[0], rank))
    lora = LoraPatch(made["lora_A"], made["lora_B"], scale_of(config, layer, rank))
    if is_dora(config) != ("lora_magnitude_vector" in made):
        raise AdapterFileError(f"layer {layer!r}: use_dora and lora_magnitude_vector belong together")
    if not is_dora(config):
        return lora
    _expect(layer, parts["lora_magnitude_vector"], shape[:1])
    return _dora(target, parts, lora)


def _dora(target: BankLinear, parts: dict[str, Tensor], lora: LoraPatch) -> DoraPatch:
    """Each output's magnitude is divided by the norm of base and pair together, in float32."""
    weight = target.weight_like_base(torch.float32)
    a, b = (parts[name].to(weight.device, torch.float32) for name in ("lora_A", "lora_B"))
    norm = torch.linalg.vector_norm(torch.addmm(weight, b, a, alpha=lora.scale), dim=1)
    ratio = parts["lora_magnitude_vector"].to(weight.device, torch.float32) / norm
    bias = target.bias
    return DoraPatch(lora, ratio, None if bias is None else bias.float())


def _expect(layer: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != shape:
        raise AdapterFileError(f"layer {layer!r}: the shape is {tuple(tensor.shape)}, the base needs {shape}")
