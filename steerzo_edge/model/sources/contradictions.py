"""Refuses a base whose files and config contradict each other.

`transformers` fills what a file lacks with random numbers, and passes over what the config does not name. Either is
a model that computes something else than the released one, and nothing says so later.
"""

import re
from collections.abc import Collection, Iterable
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from steerzo_edge.errors import BaseModelError
from steerzo_edge.model.layers import decoder_layers, features, linear_layers

_SHOWN = 3


def refuse_contradictions(
    model: PreTrainedModel,
    name: str,
    *,
    missing: Iterable[str] = (),
    unexpected: Iterable[str] = (),
    mismatched: Collection[tuple[str, object, object]] = (),
) -> None:
    """Refuses what would be made up, or left out.

    Args:
        model: The model that the config describes.
        name: The base's name, for messages.
        missing: Names of its tensors that the files do not have.
        unexpected: Names in the files that the model does not have.
        mismatched: Names, shapes in the files and shapes in the model, where these differ.

    Raises:
        BaseModelError: If there is any, apart from tensors that the family is known to do without.
    """
    for key, found, expected in sorted(mismatched):
        raise BaseModelError(
            f"base model {name!r} contradicts its config: {key} is {_shape(found)} in the file, and "
            f"{_shape(expected)} by the config",
            hint="Use config and weights of the same release.",
        )
    if lacking := sorted(_without(missing, model._keys_to_ignore_on_load_missing)):
        raise BaseModelError(
            f"base model {name!r} is incomplete: its files have no {_listed(lacking)}",
            hint="Fetch all files again. If only lm_head is missing, look at tie_word_embeddings in the config.",
        )
    known = _without(unexpected, model._keys_to_ignore_on_load_unexpected)
    if passed_over := sorted(key for key in known if _belongs(key, model)):
        raise BaseModelError(
            f"base model {name!r} contradicts its config: its files have {_listed(passed_over)}, for which the "
            "config has no place",
            hint="Use config and weights of the same release; look at the number of layers and at the biases.",
        )


def refuse_loaded(model: PreTrainedModel, name: str) -> None:
    """Refuses what a model that `transformers` has loaded shows only now.

    Args:
        model: Loaded; its linear layers may be packed, which hides their shapes from the check while loading.
        name: The base's name, for messages.

    Raises:
        BaseModelError: If a layer has another shape than the config says, or a tensor is not finite.
    """
    for key, layer in linear_layers(model).items():
        weight: Any = getattr(layer, "weight", None)
        found = getattr(getattr(weight, "quant_state", None), "shape", None) or getattr(weight, "shape", None)
        inputs, outputs = features(layer)
        if found is not None and tuple(found) not in ((outputs, inputs), (inputs, outputs)):
            shapes = [(f"{key}.weight", tuple(found), (outputs, inputs))]
            refuse_contradictions(model, name, mismatched=shapes)
    for key, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_floating_point() and tensor.numel():
            refuse_not_finite(key, tensor, name)


def refuse_not_finite(key: str, tensor: Tensor, name: str) -> None:
    """Refuses a tensor with an infinite number, or one that is no number.

    Args:
        key: Its name, for the message.
        tensor: Of floats; not empty.
        name: The base's name, for the message.

    Raises:
        BaseModelError: If there is one.
    """
    low, high = torch.aminmax(tensor)  # passes NaN on, and makes no temporary copy
    if not (torch.isfinite(low) and torch.isfinite(high)):
        raise BaseModelError(
            f"base model {name!r} has numbers in {key} that are not finite",
            hint="The file is damaged, or training ended in an overflow; fetch it again or use another release.",
        )


def _without(keys: Iterable[str], patterns: Iterable[str] | None) -> list[str]:
    return [key for key in keys if not any(re.search(pattern, key) for pattern in patterns or ())]


def _belongs(key: str, model: PreTrainedModel) -> bool:
    """Whether a name is a parameter of one of the model's innermost modules, or in a decoder layer beyond the last.

    Other names are remains of older versions (masks, frequencies), or parts that a language model does not use.
    """
    stack, layers = decoder_layers(model)
    owner, _, part = key.rpartition(".")
    index = key.removeprefix(f"{stack}.").partition(".")[0]
    if key.startswith(f"{stack}.") and index.isdigit() and int(index) >= len(layers):
        return True
    try:
        module = model.get_submodule(owner)
    except AttributeError:
        return False
    return part in ("weight", "bias") and bool(module._parameters) and not any(module.children())


def _listed(keys: list[str]) -> str:
    more = len(keys) - _SHOWN
    return ", ".join(keys[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _shape(found: object) -> str:
    return str(tuple(found)) if isinstance(found, list | tuple) else str(found)
