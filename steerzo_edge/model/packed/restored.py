"""Makes model and tokenizer again from a packed file; on a CPU no tensor is copied."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer, GenerationConfig, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.initialization import no_init_weights
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.tokenization_auto import get_tokenizer_config

from steerzo_edge.model.layers import features
from steerzo_edge.model.packed.contents import TOKENIZER
from steerzo_edge.model.packed.file import DamagedError
from steerzo_edge.model.quantization import STORAGES
from steerzo_edge.model.sources.safety import refuse_code
from steerzo_edge.model.sources.streaming import empty_model, finish, missing_from, place
from steerzo_edge.model.weights.storage import Storage


def restored_config(notes: Mapping[str, Any]) -> PretrainedConfig:
    """The config, without the quantization that the file was released in, if it was: the tensors show it.

    Args:
        notes: Of the file.
    """
    settings = {key: value for key, value in notes["config"].items() if key != "quantization_config"}
    config: PretrainedConfig = CONFIG_MAPPING[settings["model_type"]].from_dict(settings)
    return config


def restored_tokenizer(tensors: Mapping[str, Tensor]) -> PreTrainedTokenizerBase:
    """The tokenizer as it was released.

    Args:
        tensors: Of the file.

    Raises:
        DamagedError: If one of its files would be written elsewhere.
        BaseModelError: If it brings code.
        OSError: If its files cannot be written to the directory of temporary files.
    """
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        for key, tensor in tensors.items():
            if key.startswith(TOKENIZER):
                path = directory / key.removeprefix(TOKENIZER)
                if ".." in path.parts or not path.is_relative_to(directory):
                    raise DamagedError(f"names a file {key!r} of its tokenizer")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(tensor.numpy().tobytes())
        refuse_code(get_tokenizer_config(directory), "a packed base", "tokenizer_config.json")
        found: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(directory, trust_remote_code=False)
    return found


def restored_model(
    notes: Mapping[str, Any], tensors: Mapping[str, Tensor], compute_dtype: torch.dtype, device: torch.device
) -> PreTrainedModel:
    """The model; frozen and in evaluation mode.

    Args:
        notes: Of the file.
        tensors: Of the file.
        compute_dtype: That it was packed for.
        device: Where the weights are put.

    Raises:
        DamagedError: If its tensors are not those of the model that the config describes.
    """
    with no_init_weights():
        model = empty_model(restored_config(notes), compute_dtype)
    expected = model.state_dict()
    layers, others = _by_layer(tensors, set(notes["layers"]))
    names = {*others, *(f"{owner}.{part}" for owner, parts in layers.items() for part in parts)}
    missing = missing_from(model, names)
    if missing or others.keys() - expected.keys() or layers.keys() != set(notes["layers"]):
        raise DamagedError("holds other tensors than its config describes")
    storage: Storage = STORAGES[notes["quantization"]]
    for owner, parts in layers.items():
        layer = storage.restored({part: tensor.to(device) for part, tensor in parts.items()}, compute_dtype)
        if features(layer) != features(model.get_submodule(owner)):
            raise DamagedError(f"holds {owner} in another size than its config says")
        model.set_submodule(owner, layer)
    for name, tensor in others.items():
        if tensor.shape != expected[name].shape:
            raise DamagedError(f"holds {name} in another size than its config says")
        owner, _, part = name.rpartition(".")
        place(model.get_submodule(owner), part, tensor.to(device))
    finish(model, expected.keys() - names, device)
    model.generation_config = GenerationConfig.from_dict(notes["generation_config"])
    return model


def _by_layer(
    tensors: Mapping[str, Tensor], owners: set[str]
) -> tuple[dict[str, dict[str, Tensor]], dict[str, Tensor]]:
    """The tensors of each quantized layer by their names in it, and all others of the model."""
    layers: dict[str, dict[str, Tensor]] = {}
    others = {}
    for name, tensor in tensors.items():
        if name.startswith(TOKENIZER):
            continue
        owner = name
        while owner and owner not in owners:
            owner = owner.rpartition(".")[0]
        if owner:
            layers.setdefault(owner, {})[name[len(owner) + 1 :]] = tensor
        else:
            others[name] = tensor
    return layers, others
