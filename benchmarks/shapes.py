"""Models of real shapes with random weights: the cost of a step does not depend on the weights."""

from collections.abc import Callable

import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    OPTConfig,
    PretrainedConfig,
    PreTrainedModel,
    Qwen3Config,
)

from steerzo_edge.model.base import Base
from steerzo_edge.model.layers import linear_layers
from steerzo_edge.model.load import load_base
from steerzo_edge.model.weights.library import bnb

SHAPES: dict[str, Callable[[], PretrainedConfig]] = {
    "small": lambda: LlamaConfig(
        vocab_size=32000, hidden_size=512, intermediate_size=1408, num_hidden_layers=8, num_attention_heads=8
    ),
    "qwen3-0.6b": lambda: Qwen3Config(
        vocab_size=151936, hidden_size=1024, intermediate_size=3072, num_hidden_layers=28, num_attention_heads=16,
        num_key_value_heads=8, head_dim=128, tie_word_embeddings=True,
    ),
    "qwen3-1.7b": lambda: Qwen3Config(
        vocab_size=151936, hidden_size=2048, intermediate_size=6144, num_hidden_layers=28, num_attention_heads=16,
        num_key_value_heads=8, head_dim=128, tie_word_embeddings=True,
    ),
    "opt-1.3b": lambda: OPTConfig(
        vocab_size=50272, hidden_size=2048, ffn_dim=8192, num_hidden_layers=24, num_attention_heads=32,
        word_embed_proj_dim=2048,
    ),
    "llama-3.1-8b": lambda: LlamaConfig(
        vocab_size=128256, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32,
        num_key_value_heads=8, rope_parameters={"rope_type": "default", "rope_theta": 500000.0},
    ),
    "opt-13b": lambda: OPTConfig(
        vocab_size=50272, hidden_size=5120, ffn_dim=20480, num_hidden_layers=40, num_attention_heads=40,
        word_embed_proj_dim=5120,
    ),
}  # fmt: skip


def random_base(shape: str, device: torch.device) -> Base:
    """A base of a shape, in nf4, with the bundled base's tokenizer.

    Args:
        shape: A key of `SHAPES`.
        device: Where.
    """
    model = random_model(shape, torch.bfloat16, device)
    return Base(
        name=shape,
        model=model,
        tokenizer=load_base(device="cpu").tokenizer,
        quantization="nf4",
        compute_dtype=torch.bfloat16,
        fingerprint=shape,
    )


def random_model(
    shape: str, dtype: torch.dtype, device: torch.device, *, quantized: bool = True
) -> PreTrainedModel:
    """A frozen causal language model in nf4 with double quantization, or unquantized.

    Args:
        shape: A key of `SHAPES`.
        dtype: The compute type.
        device: Where; it must hold the unquantized weights for a moment.
        quantized: False leaves the weights in the compute type.
    """
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(SHAPES[shape](), dtype=dtype)
    model.requires_grad_(False).eval()
    if quantized:
        for name, layer in linear_layers(model).items():
            assert isinstance(layer, nn.Linear)
            model.set_submodule(name, _nf4(layer, dtype))
        model.is_loaded_in_4bit = True
    return model


def _nf4(layer: nn.Linear, dtype: torch.dtype) -> bnb.nn.Linear4bit:
    small = bnb.nn.Linear4bit(
        layer.in_features,
        layer.out_features,
        bias=layer.bias is not None,
        compute_dtype=dtype,
        compress_statistics=True,
        quant_type="nf4",
        device="meta",
    )
    weight = bnb.nn.Params4bit(
        layer.weight.data, requires_grad=False, compress_statistics=True, quant_type="nf4", module=small
    )
    small.weight = weight.to(layer.weight.device)
    if layer.bias is not None:
        small.bias = layer.bias
    return small
