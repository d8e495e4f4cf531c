"""The metadata that llama.cpp needs for a base, and the order of rows it expects: one function for each family.

For Llama, llama.cpp rotates neighbouring pairs of a head's features (0 with 1, 2 with 3); transformers rotates
features half a head apart (0 with d/2). So the rows of Llama's query and key projections are reordered, in a base
and in the B of an adapter alike; attention scores are the same sums. Qwen and GPT-2 need no reordering.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor
from transformers import PretrainedConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from steerzo_edge.errors import BaseModelError
from steerzo_edge.model.layers import layer_count

Fact = str | int | float | bool | list[str] | list[int]
_HINT: Final = "Export the merged checkpoint; llama.cpp's own convert_hf_to_gguf.py knows more families."


@dataclass(frozen=True, slots=True)
class GgufShape:
    """Describes a base to llama.cpp.

    Args:
        architecture: llama.cpp's name of the family.
        layers: Number of decoder layers.
        facts: Sizes, by the keys of the format.
        reordered: Number of heads of each projection whose rows are reordered, by the last part of its name.
        rotary_factors: Divisors of the rotary frequencies, (d / 2,) float32; None if they are not scaled.
    """

    architecture: str
    layers: int
    facts: Mapping[str, Fact]
    reordered: Mapping[str, int] = field(default_factory=dict)
    rotary_factors: Tensor | None = None

    def in_order(self, layer: str, tensor: Tensor) -> Tensor:
        """The rows of a projection's weight, bias or B in llama.cpp's order.

        Args:
            layer: Dotted name of the layer.
            tensor: (O, ...).
        """
        heads = self.reordered.get(layer.rpartition(".")[2])
        if heads is None:
            return tensor
        half = len(tensor) // heads // 2
        return tensor.reshape(heads, 2, half, *tensor.shape[1:]).transpose(1, 2).reshape(tensor.shape)


def gguf_shape(config: PretrainedConfig) -> GgufShape:
    """Describes a base to llama.cpp.

    Args:
        config: Of the base.

    Raises:
        BaseModelError: If the family is not supported, or llama.cpp cannot compute what the base computes.
    """
    family = FAMILIES.get(config.model_type)
    if family is None:
        known = ", ".join(sorted(FAMILIES))
        raise BaseModelError(f"GGUF files are written for {known}, not for {config.model_type}", hint=_HINT)
    return family(config)


def _llama(config: PretrainedConfig) -> GgufShape:
    return _rotary(config, "llama", reorders=True)


def _qwen2(config: PretrainedConfig) -> GgufShape:
    return _rotary(config, "qwen2", reorders=False)


def _qwen3(config: PretrainedConfig) -> GgufShape:
    return _rotary(config, "qwen3", reorders=False)


def _rotary(config: PretrainedConfig, name: str, *, reorders: bool) -> GgufShape:
    _expect(config, "hidden_act", ("silu", "swish"))
    _expect_no_window(config)
    heads, keys = int(config.num_attention_heads), int(config.num_key_value_heads)
    width = int(getattr(config, "head_dim", None) or config.hidden_size // heads)
    facts: dict[str, Fact] = {
        "context_length": int(config.max_position_embeddings),
        "embedding_length": int(config.hidden_size),
        "block_count": layer_count(config),
        "feed_forward_length": int(config.intermediate_size),
        "attention.head_count": heads,
        "attention.head_count_kv": keys,
        "attention.key_length": width,
        "attention.value_length": width,
        "attention.layer_norm_rms_epsilon": float(config.rms_norm_eps),
        "rope.dimension_count": width,
        "rope.freq_base": float(config.rope_parameters["rope_theta"]),
        "vocab_size": int(config.vocab_size),
    }
    return GgufShape(
        name,
        layer_count(config),
        {f"{name}.{key}": value for key, value in facts.items()},
        {"q_proj": heads, "k_proj": keys} if reorders else {},
        _rotary_factors(config, name, width),
    )


def _rotary_factors(config: PretrainedConfig, name: str, width: int) -> Tensor | None:
    settings: dict[str, Any] = config.rope_parameters
    kind = settings.get("rope_type", "default")
    if settings.get("partial_rotary_factor", 1.0) != 1.0:
        raise BaseModelError("positions that rotate only a part of a head are not written to GGUF", hint=_HINT)
    if kind == "default":
        return None
    if name != "llama" or kind not in ("llama3", "linear"):
        raise BaseModelError(f"positions scaled by {kind!r} are not written to GGUF for {name}", hint=_HINT)
    found, _ = ROPE_INIT_FUNCTIONS[kind](config, torch.device("cpu"))
    places = torch.arange(0, width, 2, dtype=torch.float32) / width
    plain = torch.pow(float(settings["rope_theta"]), -places)
    return torch.div(plain, found.float())


def _gpt2(config: PretrainedConfig) -> GgufShape:
    _expect(config, "activation_function", ("gelu_new", "gelu_pytorch_tanh"))
    _expect(config, "scale_attn_weights", (True,))
    _expect(config, "scale_attn_by_inverse_layer_idx", (False,))
    facts: dict[str, Fact] = {
        "context_length": int(config.n_positions),
        "embedding_length": int(config.n_embd),
        "block_count": layer_count(config),
        "feed_forward_length": int(config.n_inner or 4 * config.n_embd),
        "attention.head_count": int(config.n_head),
        "attention.layer_norm_epsilon": float(config.layer_norm_epsilon),
        "vocab_size": int(config.vocab_size),
    }
    return GgufShape("gpt2", layer_count(config), {f"gpt2.{key}": value for key, value in facts.items()})


def _expect(config: PretrainedConfig, key: str, known: tuple[object, ...]) -> None:
    found = getattr(config, key)
    if found not in known:
        raise BaseModelError(
            f"{key} is {found!r}; llama.cpp computes {config.model_type} with {known[0]!r}", hint=_HINT
        )


def _expect_no_window(config: PretrainedConfig) -> None:
    window = getattr(config, "sliding_window", None)
    used = getattr(config, "use_sliding_window", True)
    if used and window is not None and window < config.max_position_embeddings:
        raise BaseModelError(
            f"attention looks {window} tokens back, and llama.cpp would attend to all tokens", hint=_HINT
        )


FAMILIES: Final[Mapping[str, Callable[[PretrainedConfig], GgufShape]]] = {
    "gpt2": _gpt2,
    "llama": _llama,
    "mistral": _llama,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
}
