"""Fills an empty model from a file, one tensor at a time.

Each tensor is read alone, put on the device in the form in which it stays, and its source is given back. So loading
takes the packed model and one tensor more, not the whole file in 16 bits.
"""

from collections.abc import Callable, Mapping, Set
from typing import Final

import torch
from accelerate import init_empty_weights
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.initialization import no_init_weights

from steerzo_edge.model.allocator import give_back
from steerzo_edge.model.layers import linear_layers
from steerzo_edge.model.sources.contradictions import refuse_contradictions, refuse_not_finite
from steerzo_edge.model.sources.source import Loading
from steerzo_edge.model.weights.none import is_transposed

# Tensors are expanded in pieces too small to return to the system by themselves: after so many numbers they are.
_EXPANDED: Final = 1 << 23
Read = Callable[[], Tensor]
"""Reads one tensor, in the type it is stored in."""


def empty_model(config: PretrainedConfig, compute_dtype: torch.dtype) -> PreTrainedModel:
    """Builds the model that a config describes; its parameters have no storage.

    Args:
        config: Of a causal language model.
        compute_dtype: The type of its parameters.
    """
    with init_empty_weights(include_buffers=False), no_init_weights():
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=compute_dtype)
    return model


def missing_from(model: PreTrainedModel, names: Set[str]) -> set[str]:
    """The tensors of a model that neither are among `names` nor share the storage of one that is.

    Args:
        model: Empty.
        names: Of the tensors that a file has, as the model calls them.
    """
    missing = set(model.state_dict()) - names
    groups: dict[str, set[str]] = {}
    for target, source in model.all_tied_weights_keys.items():
        groups.setdefault(source, {source}).add(target)
    for group in groups.values():
        if group & names:
            missing -= group
    return missing


def fill(
    model: PreTrainedModel, read: Mapping[str, Read], loading: Loading, name: str, *, views: bool = True
) -> None:
    """Reads all tensors of an empty model and stores the decoder's linear layers as the settings ask.

    Args:
        model: As `empty_model` builds it; frozen and in evaluation mode afterwards.
        read: By the model's own names; tensors that the model does not have are passed over.
        loading: Storage, types, device.
        name: The base's name, for messages.
        views: Whether what is read may be a view of a file, which has to be copied to let the file go.

    Raises:
        BaseModelError: If a tensor is missing, has another shape than the config says, or is not finite.
        OSError: If it cannot be read.
    """
    expected = model.state_dict()
    missing = missing_from(model, read.keys())
    refuse_contradictions(model, name, missing=missing, unexpected=read.keys() - expected.keys())
    linear = linear_layers(model) if loading.storage.quantized else {}
    expanded = 0
    for key in expected:
        if key not in read:
            continue
        owner, _, part = key.rpartition(".")
        if owner not in linear:
            tensor = _checked(model, key, read[key](), expected[key], name)
            owned = _owned(tensor, loading.device, expected[key].dtype, copy=views)
            place(model.get_submodule(owner), part, owned)
        elif part == "weight":
            bias = f"{owner}.bias"
            _store(
                model, owner, linear[owner],
                _checked(model, key, read[key](), expected[key], name),
                _checked(model, bias, read[bias](), expected[bias], name) if bias in read else None,
                loading,
            )  # fmt: skip
        expanded += expected[key].numel()
        if expanded >= _EXPANDED:
            give_back()
            expanded = 0
    finish(model, set(expected) - read.keys(), loading.device)


def place(module: nn.Module, part: str, tensor: Tensor) -> None:
    """Gives an empty module one of its tensors.

    Args:
        module: A module without submodules of that name.
        part: The tensor's name in it.
        tensor: Used as it is.
    """
    if part in module._buffers:
        module._buffers[part] = tensor
    else:
        module._parameters[part] = nn.Parameter(tensor, requires_grad=False)


def finish(model: PreTrainedModel, missing: set[str], device: torch.device) -> None:
    """Ties the tensors that share storage, and moves what is computed from the config, such as rotary frequencies.

    Args:
        model: With all tensors of its files; frozen and in evaluation mode afterwards.
        missing: Names of tensors that the files leave out because another one is used in their place.
        device: Where the tensors are.
    """
    model.tie_weights(missing_keys=missing, recompute_mapping=False)
    for module in model.modules():
        for part, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[part] = buffer.to(device)
    model.requires_grad_(False).eval()


def _checked(model: PreTrainedModel, key: str, tensor: Tensor, expected: Tensor, name: str) -> Tensor:
    if tensor.shape != expected.shape:
        refuse_contradictions(model, name, mismatched=[(key, tuple(tensor.shape), tuple(expected.shape))])
    if tensor.is_floating_point() and tensor.numel():
        refuse_not_finite(key, tensor, name)
    return tensor


def _owned(tensor: Tensor, device: torch.device, dtype: torch.dtype, *, copy: bool = True) -> Tensor:
    """The tensor in memory of its own: a view of the file would keep the file mapped."""
    return tensor.to(device, dtype, copy=copy).contiguous()


def _store(
    model: PreTrainedModel, owner: str, layer: nn.Module, weight: Tensor, bias: Tensor | None, loading: Loading
) -> None:
    # To the compute type first: quantization has always seen these numbers.
    weight = weight.to(loading.device, loading.compute_dtype)
    if is_transposed(layer):
        weight = weight.T.contiguous()
    if bias is not None:
        bias = _owned(bias, loading.device, loading.compute_dtype)
    model.set_submodule(owner, loading.storage.layer(weight, bias, loading.compute_dtype))
