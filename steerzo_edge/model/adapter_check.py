"""Checks an uploaded adapter: it must be a LoRA on linear layers of this base, of finite numbers.

The check comes before any use of the adapter, and reports all faults at once. Settings that change what the numbers
mean (DoRA, patterns of ranks, initializations that also change the base) are refused; other settings are ignored.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open

from steerzo_edge.data.rows import shown
from steerzo_edge.errors import AdapterFileError, Fault
from steerzo_edge.model.adapter_file import CONFIG, LAYER_TENSOR, WEIGHTS, read_config
from steerzo_edge.model.lora import lora_config

MOST_FAULTS: Final = 100
# Room for the names and shapes of some ten thousand tensors; the format itself allows 100 MB.
MOST_HEADER_BYTES: Final = 4 << 20
FLOATS: Final = ("F32", "F16", "BF16")
# Settings of peft that change what the numbers mean, and what to do about each.
_REFUSED: Final[Mapping[str, str]] = {
    "use_dora": "DoRA is not supported; train a plain LoRA",
    "rank_pattern": "all layers must have one rank; leave it empty",
    "alpha_pattern": "all layers must have one alpha; leave it empty",
    "modules_to_save": "full layers are not accepted, only LoRA on linear layers",
    "layer_replication": "the base's layers cannot be replicated; leave it empty",
    "trainable_token_indices": "trained tokens are not supported",
    "target_parameters": "LoRA is supported on linear layers only",
    "alora_invocation_tokens": "an adapter is active for the whole prompt here; train a plain LoRA",
    "use_qalora": "QALoRA is not supported; train a plain LoRA",
    "lora_bias": "biases are not supported; train without them",
    "megatron_config": "Megatron's layers are not supported",
}
# Initializations that subtract a part from the base's weights: the adapter does not fit the original base.
_CHANGE_THE_BASE: Final = ("pissa", "olora", "corda", "loftq")


def check_adapter(directory: Path, shapes: Mapping[str, tuple[int, int]]) -> dict[str, Any]:
    """Checks a PEFT directory.

    Args:
        directory: With `adapter_config.json` and `adapter_model.safetensors`.
        shapes: (in, out) features of the base's linear layers, by dotted name.

    Returns:
        Its settings, reduced to the keys that matter.

    Raises:
        AdapterFileError: With all faults (the first 100).
    """
    config = read_config(directory)
    faults = list(_config_faults(config))
    layers: set[str] = set()
    for fault in _tensor_faults(directory / WEIGHTS, config.get("r"), shapes, layers):
        faults.append(fault)
        if len(faults) >= MOST_FAULTS:
            break
    if faults:
        raise AdapterFileError("; ".join(map(str, faults[:5])), faults=faults[:MOST_FAULTS])
    cleaned = lora_config(config["r"], config["lora_alpha"], sorted(layers))
    named = config.get("base_model_name_or_path")
    return {
        **cleaned,
        **({"use_rslora": True} if config.get("use_rslora") else {}),  # peft before 0.8 does not know this key
        "fan_in_fan_out": bool(config.get("fan_in_fan_out")),
        "base_model_name_or_path": named if isinstance(named, str) else None,
        "revision": None,
    }


def _config_faults(config: Mapping[str, Any]) -> Iterator[Fault]:
    def fault(key: str, fix: str) -> Fault:
        return Fault(CONFIG, key, shown(config.get(key)), fix)

    if config.get("peft_type") != "LORA":
        yield fault("peft_type", 'only "LORA" is supported')
    if config.get("task_type") not in ("CAUSAL_LM", None):
        yield fault("task_type", 'only "CAUSAL_LM" is supported')
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
        yield fault("r", "the rank must be a whole number, at least 1")
    if not isinstance(alpha, int | float) or isinstance(alpha, bool) or not _is_finite(alpha):
        yield fault("lora_alpha", "alpha must be a finite number")
    if config.get("bias", "none") != "none":
        yield fault("bias", 'biases are not supported; train with bias "none"')
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(_CHANGE_THE_BASE):
        yield fault(
            "init_lora_weights", "this initialization changes the base too; convert it to a plain LoRA with peft"
        )
    for key, fix in _REFUSED.items():
        if config.get(key):
            yield fault(key, fix)


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer too large for a float
        return False


def _tensor_faults(
    path: Path, rank: Any, shapes: Mapping[str, tuple[int, int]], layers: set[str]
) -> Iterator[Fault]:
    """Faults of the weights; adds to `layers` every layer that has tensors."""
    _check_header(path)
    parts: dict[str, set[str]] = {}
    try:
        with safe_open(path, "pt") as file:
            for key in file.keys():  # noqa: SIM118
                found = LAYER_TENSOR.match(key)
                if found is None or found["part"] == "weight" or found["layer"] not in shapes:
                    yield _tensor_fault(key, "a name", "no linear layer of the base has this name")
                    continue
                parts.setdefault(found["layer"], set()).add(found["part"])
                piece = file.get_slice(key)
                inputs, outputs = shapes[found["layer"]]
                expected = [rank, inputs] if found["part"] == "lora_A" else [outputs, rank]
                if piece.get_shape() != expected:
                    yield _tensor_fault(key, f"shape {piece.get_shape()}", f"this base and r need {expected}")
                elif piece.get_dtype() not in FLOATS:
                    yield _tensor_fault(key, piece.get_dtype(), f"the type must be one of {', '.join(FLOATS)}")
                elif not bool(torch.isfinite(file.get_tensor(key)).all()):
                    yield _tensor_fault(key, "nan or infinity", "all numbers must be finite")
    except (OSError, SafetensorError) as error:
        raise AdapterFileError(f"{WEIGHTS} cannot be read: {error}") from None
    if not parts:
        yield _tensor_fault("", "no tensor of a linear layer", "an adapter needs lora_A and lora_B of some layers")
    for layer, found_parts in parts.items():
        layers.add(layer)
        if len(found_parts) != 2:
            yield _tensor_fault(layer, f"only {found_parts.pop()}", "lora_A and lora_B belong together")


def _tensor_fault(key: str, found: str, fix: str) -> Fault:
    return Fault(WEIGHTS, key[:200], found, fix)


def _check_header(path: Path) -> None:
    """Limits the header, which is parsed as a whole: a small file must not claim a header of 100 MB."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
    except OSError as error:
        raise AdapterFileError(f"{WEIGHTS} cannot be read: {error.strerror}") from None
    if size > MOST_HEADER_BYTES:
        raise AdapterFileError(f"{WEIGHTS} is not a safetensors file, or has a header of {size} bytes")
