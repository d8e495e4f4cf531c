"""The config of `transformers` that the metadata of a GGUF file describes.

What a file says about its computation and what is not read here would be left out in silence, so it is refused.
"""

import math
from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor
from transformers import PretrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from steerzo_edge.errors import BaseModelError
from steerzo_edge.model.gguf.header import Header
from steerzo_edge.model.gguf.tensors import read_tensor

FREQUENCIES: Final = "rope_freqs.weight"
_COMMON: Final = {
    "context_length": "max_position_embeddings",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "embedding_length": "hidden_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "rope.freq_base": "rope_theta",
}
_HEAD: Final = {"attention.key_length": "head_dim"}
_WINDOW: Final = {"attention.sliding_window": "sliding_window"}
_GEMMA: Final = {**_COMMON, **_HEAD, **_WINDOW, "final_logit_softcapping": "final_logit_softcapping"}
# llama.cpp's families: the name in `transformers`, and where its config has each fact.
KNOWN: Final[Mapping[str, tuple[str, Mapping[str, str]]]] = {
    "llama": ("llama", {**_COMMON, **_HEAD}),
    "qwen2": ("qwen2", _COMMON),
    "qwen3": ("qwen3", {**_COMMON, **_HEAD}),
    "gemma2": ("gemma2", {**_GEMMA, "attn_logit_softcapping": "attn_logit_softcapping"}),
    "gemma3": ("gemma3_text", _GEMMA),
    "gpt2": (
        "gpt2",
        {
            "context_length": "n_positions",
            "block_count": "n_layer",
            "feed_forward_length": "n_inner",
            "embedding_length": "n_embd",
            "attention.head_count": "n_head",
            "attention.layer_norm_epsilon": "layer_norm_epsilon",
        },
    ),
}
_NEEDED: Final = ("context_length", "block_count", "embedding_length", "attention.head_count")
_UNREAD: Final = (
    "expert_count", "attention.scale", "attention.clamp_kqv", "attention.max_alibi_bias", "logit_scale",
    "residual_scale", "embedding_scale",
)  # fmt: skip
_PUBLISHED: Final = "Use the model's release in safetensors."


def config_of(header: Header, *, name: str) -> PretrainedConfig:
    """The config.

    Args:
        header: Of the file.
        name: The base's name, for messages.

    Raises:
        BaseModelError: If the family is not known here, or something in its metadata is.
    """
    known = KNOWN.get(header.architecture)
    if known is None:
        raise BaseModelError(
            f"base model {name!r} is a GGUF file of {header.architecture!r}, which cannot be read from GGUF",
            hint=f"These can: {', '.join(KNOWN)}. {_PUBLISHED}",
        )
    missing = [key for key in _NEEDED if header.fact(key) is None]
    if missing:
        raise BaseModelError(
            f"base model {name!r} does not say its {header.architecture}.{missing[0]}", hint=_PUBLISHED
        )
    unread = [key for key in _UNREAD if header.fact(key)]
    if unread:
        raise BaseModelError(
            f"base model {name!r} has {header.architecture}.{unread[0]}, which is not supported from GGUF",
            hint=_PUBLISHED,
        )
    kind, keys = known
    found = {other: header.fact(key) for key, other in keys.items() if header.fact(key) is not None}
    found |= _tokens(header) | _of_family(header) | {"tie_word_embeddings": "output.weight" not in header.tensors}
    config: PretrainedConfig = CONFIG_MAPPING[kind].from_dict({**found, "model_type": kind})
    _stretch(config, header, name)
    return config


def _tokens(header: Header) -> dict[str, Any]:
    facts = header.facts
    ends = [facts.get(f"tokenizer.ggml.{end}_token_id") for end in ("eos", "eot", "eom")]
    ends = list(dict.fromkeys(end for end in ends if end is not None))
    return {
        "vocab_size": header.tensors["token_embd.weight"].shape[0]
        if "token_embd.weight" in header.tensors
        else len(facts.get("tokenizer.ggml.tokens", ())),
        "bos_token_id": facts.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": ends[0] if len(ends) == 1 else ends or None,
        "pad_token_id": facts.get("tokenizer.ggml.padding_token_id"),
    }


def _of_family(header: Header) -> dict[str, Any]:
    """What follows from the family's name and sizes; llama.cpp decides it in the same way."""
    heads, hidden = header.fact("attention.head_count"), header.fact("embedding_length")
    if header.architecture == "llama":
        bias = {f"{part}_bias": f"blk.0.{key}.bias" in header.tensors for part, key in _LLAMA_BIASES}
        return bias | ({} if header.fact("attention.key_length") else {"head_dim": hidden // heads})
    if header.architecture in ("gemma2", "gemma3"):
        width = header.fact("attention.key_length", 256)
        # The 27 B models scale by the width of a head as if heads filled the hidden states.
        is_largest = header.fact("block_count") == {"gemma2": 46, "gemma3": 62}[header.architecture]
        return {"query_pre_attn_scalar": hidden // heads if is_largest else width}
    return {}


_LLAMA_BIASES: Final = (("attention", "attn_q"), ("mlp", "ffn_up"))


def _stretch(config: PretrainedConfig, header: Header, name: str) -> None:
    """Sets how rotary positions are stretched.

    Raises:
        BaseModelError: If that is not known here.
    """
    kind = header.fact("rope.scaling.type", "none")
    factor, first = header.fact("rope.scaling.factor"), header.fact("rope.scaling.original_context_length")
    stretched: dict[str, Any] | None = None
    if FREQUENCIES in header.tensors:
        divisors = read_tensor(header, FREQUENCIES, torch.float32, name=name)
        stretched = _llama3(divisors, float(config.rope_parameters["rope_theta"]))
    elif kind == "linear" and factor:
        stretched = {"rope_type": "linear", "factor": float(factor)}
    elif kind == "yarn" and factor and first:
        stretched = {"rope_type": "yarn", "factor": float(factor), "original_max_position_embeddings": int(first)}
    elif kind == "none" or not factor:
        return
    if stretched is None:
        raise BaseModelError(
            f"base model {name!r} stretches its rotary positions in a way that is not supported from GGUF",
            hint=_PUBLISHED,
        )
    ropes: dict[str, Any] = config.rope_parameters
    ropes.get("full_attention", ropes).update(stretched)


def _llama3(divisors: Tensor, theta: float) -> dict[str, Any] | None:
    """The settings of Llama 3.1 and later that give these divisors of the frequencies; None if none do."""
    count = len(divisors)
    frequencies = theta ** (-torch.arange(count, dtype=torch.float32) / count)
    lengths = 2 * math.pi / frequencies
    factor = float(divisors.max())
    for power in range(6, 20):
        first = 1 << power
        smooth = ((first / lengths - 1) / (4 - 1)).clamp(0, 1)
        if torch.allclose(1 / ((1 - smooth) / factor + smooth), divisors, rtol=1e-3):
            return {
                "rope_type": "llama3", "factor": factor, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                "original_max_position_embeddings": first,
            }  # fmt: skip
    return None
