"""The sizes of a model, from its config alone: its layers are built without storage and inspected.

That gives the size of every weight exactly, whatever its name in the model family; `optimum` knows the family's
name for the number of heads. Experts that are stored as one stacked tensor count as weights that are not quantized.
"""

from copy import deepcopy
from dataclasses import dataclass

import torch
from optimum.utils import NormalizedConfigManager
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from steerzo_edge.model.building import building
from steerzo_edge.model.layers import decoder_layers, features, layer_count, layer_index, linear_layers
from steerzo_edge.model.quantization import STORAGES, Quantization
from steerzo_edge.model.sources.registry import source_of
from steerzo_edge.model.sources.streaming import empty_model

# Names, in various model families, of the layers whose output is added to the residual stream.
OUTPUT_LAYERS = {"o_proj", "out_proj", "dense", "c_proj", "down_proj", "fc2", "fc_out", "dense_4h_to_h", "wo", "w2"}


@dataclass(frozen=True, slots=True)
class Projection:
    """A linear layer of the decoder.

    Args:
        name: Dotted.
        inputs: D.
        outputs: O.
        gives_back: Whether its output is added to the residual stream: the last layer of an attention or an MLP.
    """

    name: str
    inputs: int
    outputs: int
    gives_back: bool

    @property
    def module(self) -> str:
        """Dotted name of the module that it is a part of."""
        return self.name.rpartition(".")[0]

    @property
    def in_attention(self) -> bool:
        """Whether that module is an attention."""
        return "attn" in self.module or "attention" in self.module


@dataclass(frozen=True, slots=True)
class Anatomy:
    """Sizes of a causal language model.

    Args:
        layers: Decoder layers.
        hidden: Width of the residual stream.
        queries: Number of query heads times their width.
        keys: Number of key heads times their width.
        heads: Number of query heads.
        intermediate: Width inside the MLP.
        gated: Whether the MLP is a product of two branches.
        activation: The name of the activation in the config.
        norms: Widths of the norms of one layer, for one token.
        float32_norms: Whether norms are computed on a float32 copy (RMS norms of `transformers`).
        vocabulary: V.
        projections: Every linear layer of the decoder, lowest first.
        others: Size of all other weights together; a tied head counts once.
    """

    layers: int
    hidden: int
    queries: int
    keys: int
    heads: int
    intermediate: int
    gated: bool
    activation: str
    norms: tuple[int, ...]
    float32_norms: bool
    vocabulary: int
    projections: tuple[Projection, ...]
    others: int

    def weight_bytes(self, quantization: Quantization, itemsize: int) -> int:
        """Bytes of the frozen base.

        Args:
            quantization: Of the decoder's linear layers; everything else stays in the compute type.
            itemsize: Bytes of the compute type.
        """
        linear = sum(projection.inputs * projection.outputs for projection in self.projections)
        storage = STORAGES[quantization]
        scales = storage.bytes_per_output * sum(projection.outputs for projection in self.projections)
        return round(linear * storage.bytes_per_weight(itemsize)) + scales + self.others * itemsize

    @property
    def largest_weight(self) -> int:
        """Size of the largest linear layer, which a quantized product expands for a moment."""
        return max(projection.inputs * projection.outputs for projection in self.projections)


def load_config(name: str, revision: str | None = None) -> PretrainedConfig:
    """Loads a base's config from disk, or from the hub without the weights.

    Args:
        name: As in `load_base`.
        revision: Commit, tag or branch of a hub model.

    Raises:
        BaseModelError: If there is no such model, or the hub cannot be reached.
    """
    source = source_of(name, revision)
    try:
        return source.config()
    except (OSError, ValueError) as error:
        raise source.explained(error, "the config of base model") from error


def bare_model(config: PretrainedConfig) -> PreTrainedModel:
    """Builds the model that a config describes, without storage for its weights.

    Args:
        config: The config of a causal language model.
    """
    with building():
        model = empty_model(deepcopy(config), torch.float32)
    model.tie_weights()
    return model


def anatomy(config: PretrainedConfig) -> Anatomy:
    """Reads the sizes of the model that a config describes.

    Args:
        config: The config of a causal language model.
    """
    model = bare_model(config)
    linear = linear_layers(model)
    _, layers = decoder_layers(model)
    heads, keys, hidden = _heads(config)
    width = int(getattr(config, "head_dim", None) or hidden // heads)
    projections = _projections(linear)
    first = [projection for projection in projections if layer_index(projection.name) == 0]
    intermediate = max(projection.inputs for projection in ([p for p in first if p.gives_back] or first))
    branches = sum(p.outputs for p in first if p.outputs in (intermediate, 2 * intermediate) and not p.in_attention)
    norms = {name: module for name, module in layers[0].named_modules() if _is_norm(module)}
    return Anatomy(
        layers=layer_count(config),
        hidden=hidden,
        queries=heads * width,
        keys=keys * width,
        heads=heads,
        intermediate=intermediate,
        gated=branches >= 2 * intermediate,
        activation=_activation(config),
        norms=tuple(_norm_width(name, module, heads, keys) for name, module in norms.items()),
        float32_norms=not any(isinstance(module, nn.LayerNorm) for module in norms.values()),
        vocabulary=int(config.vocab_size),
        projections=projections,
        others=sum(p.numel() for p in model.parameters()) - sum(p.inputs * p.outputs for p in projections),
    )


def _heads(config: PretrainedConfig) -> tuple[int, int, int]:
    """The number of query heads, that of key heads, and the hidden size."""
    try:
        known = NormalizedConfigManager.get_normalized_config_class(config.model_type)(config)
        heads, hidden = int(known.num_attention_heads), int(known.hidden_size)
    except (KeyError, AttributeError):
        heads, hidden = int(getattr(config, "num_attention_heads", 1)), int(config.hidden_size)
    return heads, int(getattr(config, "num_key_value_heads", None) or heads), hidden


def _projections(linear: dict[str, nn.Module]) -> tuple[Projection, ...]:
    return tuple(
        Projection(name, *features(module), name.rpartition(".")[2] in OUTPUT_LAYERS)
        for name, module in linear.items()
    )


def _is_norm(module: nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    return isinstance(weight, nn.Parameter) and weight.ndim == 1


def _norm_width(name: str, module: nn.Module, heads: int, keys: int) -> int:
    """The width of a norm for one token; norms of queries and keys are applied to every head."""
    size = int(module.weight.numel())  # type: ignore[operator]
    return size * {"q_norm": heads, "k_norm": keys}.get(name.rpartition(".")[2], 1)


def _activation(config: PretrainedConfig) -> str:
    names = ("hidden_activation", "hidden_act", "activation_function")
    return next((str(found) for name in names if (found := getattr(config, name, None))), "")
