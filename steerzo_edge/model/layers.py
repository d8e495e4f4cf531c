"""Finds the linear layers of a decoder, whatever names its family gives them."""

import re
from collections.abc import Sequence

from optimum.utils import NormalizedConfigManager
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from steerzo_edge.errors import BaseModelError, ProfileError
from steerzo_edge.model.quantization import storage_of


def layer_count(config: PretrainedConfig) -> int:
    """Number of decoder layers; configs name it differently."""
    try:
        normalized = NormalizedConfigManager.get_normalized_config_class(config.model_type)(config)
        return int(normalized.num_layers)
    except (KeyError, AttributeError):
        return int(config.num_hidden_layers)


def decoder_layers(model: PreTrainedModel) -> tuple[str, nn.ModuleList]:
    """The stack of decoder layers and its dotted name, such as "model.layers" or "transformer.h".

    Raises:
        BaseModelError: If the model has no list of that many layers.
    """
    count = layer_count(model.config)
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return name, module
    raise BaseModelError(f"{type(model).__name__} has no list of {count} decoder layers")


def linear_layers(model: PreTrainedModel) -> dict[str, nn.Module]:
    """Every linear layer inside the decoder layers, by dotted name, in order; never the output head."""
    stack, layers = decoder_layers(model)
    return {f"{stack}.{name}": module for name, module in layers.named_modules() if storage_of(module) is not None}


def features(module: nn.Module) -> tuple[int, int]:
    """(in, out) features of a linear layer."""
    if isinstance(module, Conv1D):
        return int(module.nx), int(module.nf)
    return int(module.in_features), int(module.out_features)  # type: ignore[arg-type]


def select(names: Sequence[str], targets: str | Sequence[str], last_layers: int | None) -> list[str]:
    """Selects the layers that a subset trains.

    Args:
        names: Dotted names of all linear layers, lowest first.
        targets: "all-linear", or the last parts of names, such as ["q_proj", "v_proj"].
        last_layers: Select from this many topmost decoder layers; None, or more than there are, for all.

    Raises:
        ProfileError: If a target matches nothing.
    """
    if targets == "all-linear":
        chosen = list(names)
    else:
        known = sorted({name.rsplit(".", 1)[-1] for name in names})
        unknown = [target for target in targets if target not in known]
        if unknown:
            raise ProfileError(f"subset.targets: no layer is called {unknown[0]!r}; there are {', '.join(known)}")
        chosen = [name for name in names if name.rsplit(".", 1)[-1] in targets]
    if last_layers is None:
        return chosen
    indices = sorted({layer_index(name) for name in names})
    return [name for name in chosen if layer_index(name) in indices[-last_layers:]]


def layer_index(name: str) -> int:
    """The decoder layer that a dotted name is in: 7 for "model.layers.7.mlp.up_proj"."""
    found = re.search(r"\.(\d+)\.", name)
    if found is None:
        raise BaseModelError(f"{name!r} is not inside a numbered decoder layer")
    return int(found.group(1))
