"""Checks an uploaded adapter: it must be a LoRA on linear layers of this base, of finite numbers.

The check comes before any use of the adapter, and reports all faults at once. Ranks and alphas of single layers and
DoRA are honoured. Other settings that change what the numbers mean are refused, and so are settings that are not
known here; those that only say how the adapter was trained are ignored.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open

from steerzo_edge.errors import AdapterFileError, Fault
from steerzo_edge.model.adapter_file import CONFIG, LAYER_TENSOR, WEIGHTS, read_config
from steerzo_edge.model.adapter_settings import (
    KEEP_THE_BASE,
    alpha_of,
    changes_the_base,
    config_fault,
    is_dora,
    is_number,
    is_rank,
    pattern_faults,
    rank_of,
)
from steerzo_edge.model.lora import lora_config

MOST_FAULTS: Final = 100
# Room for the names and shapes of some ten thousand tensors; the format itself allows 100 MB.
MOST_HEADER_BYTES: Final = 4 << 20
FLOATS: Final = ("F32", "F16", "BF16")
# Settings of peft that change what the numbers mean, and what to do about each.
_REFUSED: Final[Mapping[str, str]] = {
    "modules_to_save": "full layers are not accepted, only LoRA on linear layers",
    "layer_replication": "the base's layers cannot be replicated; leave it empty",
    "trainable_token_indices": "trained tokens are not supported",
    "target_parameters": "LoRA is supported on linear layers only",
    "alora_invocation_tokens": "an adapter is active for the whole prompt here; train a plain LoRA",
    "use_qalora": "QALoRA is not supported; train a plain LoRA",
    "lora_bias": "biases are not supported; train without them",
    "megatron_config": "Megatron's layers are not supported",
    "use_bdlora": "BD-LoRA is not supported; train a plain LoRA",
    "arrow_config": "Arrow is not supported; upload a single adapter",
    "kasa_config": "KaSA is not supported; train a plain LoRA",
    "monteclora_config": "MonteCLoRA is not supported; train a plain LoRA",
}
# Settings that are honoured, or that only say how and on what an adapter was trained. The `_config` of an
# initialization means nothing without that initialization.
_KNOWN: Final = frozenset(
    (
        *("peft_type", "task_type", "r", "lora_alpha", "bias", "use_rslora"),
        *("use_dora", "rank_pattern", "alpha_pattern", "init_lora_weights", "fan_in_fan_out", "target_modules"),
        *(
            "exclude_modules",
            "lora_dropout",
            "layers_to_transform",
            "layers_pattern",
            "megatron_core",
            "qalora_group_size",
        ),
        *("runtime_config", "loftq_config", "eva_config", "corda_config", "lora_ga_config", "velora_config"),
        *(
            "ensure_weight_tying",
            "base_model_name_or_path",
            "revision",
            "inference_mode",
            "auto_mapping",
            "peft_version",
        ),
    )
)


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
    for fault in _tensor_faults(directory / WEIGHTS, {} if faults else config, shapes, layers):
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
        **({"use_dora": True} if is_dora(config) else {}),  # nor peft before 0.9 this one
        **_patterns(config, layers),
        "fan_in_fan_out": bool(config.get("fan_in_fan_out")),
        "base_model_name_or_path": named if isinstance(named, str) else None,
        "revision": None,
    }


def _patterns(config: Mapping[str, Any], layers: Iterable[str]) -> dict[str, Any]:
    """Ranks and alphas of the layers that have others than the rest, by their full names."""
    ranks = {layer: rank_of(config, layer) for layer in sorted(layers)}
    alphas = {layer: alpha_of(config, layer) for layer in ranks}
    found = {
        "rank_pattern": {layer: rank for layer, rank in ranks.items() if rank != config["r"]},
        "alpha_pattern": {layer: alpha for layer, alpha in alphas.items() if alpha != config["lora_alpha"]},
    }
    return {key: own for key, own in found.items() if own}


def _config_faults(config: Mapping[str, Any]) -> Iterator[Fault]:
    def fault(key: str, fix: str) -> Fault:
        return config_fault(CONFIG, config, key, fix)

    if config.get("peft_type") != "LORA":
        yield fault("peft_type", 'only "LORA" is supported')
    if config.get("task_type") not in ("CAUSAL_LM", None):
        yield fault("task_type", 'only "CAUSAL_LM" is supported')
    if not is_rank(config.get("r")):
        yield fault("r", "the rank must be a whole number, at least 1")
    if not is_number(config.get("lora_alpha")):
        yield fault("lora_alpha", "alpha must be a finite number")
    if config.get("bias", "none") != "none":
        yield fault("bias", 'biases are not supported; train with bias "none"')
    yield from _meaning_faults(config)


def _meaning_faults(config: Mapping[str, Any]) -> Iterator[Fault]:
    """Faults of settings that may change what the numbers mean."""
    if changes_the_base(config):
        fix = f"only true, false, {', '.join(KEEP_THE_BASE)} are known to leave the base as it is; convert the"
        yield config_fault(CONFIG, config, "init_lora_weights", f"{fix} adapter to a plain LoRA with peft")
    for key, fix in pattern_faults(config):
        yield config_fault(CONFIG, config, key, fix)
    for key, fix in _REFUSED.items():
        if config.get(key):
            yield config_fault(CONFIG, config, key, fix)
    for key in sorted(config.keys() - _REFUSED.keys() - _KNOWN):
        if config[key]:
            yield config_fault(
                CONFIG, config, key, "this setting is not known here, and may change what the numbers mean"
            )


def _tensor_faults(
    path: Path, config: Mapping[str, Any], shapes: Mapping[str, tuple[int, int]], layers: set[str]
) -> Iterator[Fault]:
    """Faults of the weights; adds to `layers` every layer that has tensors.

    Ranks are not compared if the settings have faults: then `config` is empty.
    """
    _check_header(path)
    parts: dict[str, set[str]] = {}
    try:
        with safe_open(path, "pt") as file:
            for key in file.keys():  # noqa: SIM118
                found = LAYER_TENSOR.match(key)
                if found is None or found["part"] not in _parts(config) or found["layer"] not in shapes:
                    yield _tensor_fault(key, "a name", "no linear layer of the base has this name")
                    continue
                parts.setdefault(found["layer"], set()).add(found["part"])
                piece = file.get_slice(key)
                expected = _shape(found["part"], shapes[found["layer"]], rank_of(config, found["layer"]))
                if config and piece.get_shape() != expected:
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
        if config and found_parts != _parts(config):
            only = " and ".join(sorted(found_parts))
            yield _tensor_fault(layer, f"only {only}", f"{' and '.join(sorted(_parts(config)))} belong together")


def _parts(config: Mapping[str, Any]) -> set[str]:
    """The tensors that each layer has."""
    return {"lora_A", "lora_B", *(("lora_magnitude_vector",) if is_dora(config) or not config else ())}


def _shape(part: str, features: tuple[int, int], rank: Any) -> list[Any]:
    inputs, outputs = features
    if part == "lora_magnitude_vector":
        return [outputs]
    return [rank, inputs] if part == "lora_A" else [outputs, rank]


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
