"""The shape of a base, from the bytes it may have.

Llama, feed-forward of 8/3 of the width (rounded up to 64), no biases, as many key as query heads. Widths are
multiples of 64. For each width the deepest stack that fits is looked at, and that one is taken whose width is
nearest to 32 times its depth (the bundled base's proportion); of two that are equally near, the larger. The budget
counts every parameter in bf16, embeddings included.
"""

import math
from dataclasses import dataclass

import torch
from torch import nn
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from steerzo_edge.errors import InputError
from steerzo_edge.seeds import derive_seed
from tools.pretrain_base.tokenizer import END_OF_TURN, PAD

BYTES = 2  # of a bf16 parameter
PROPORTION = 32
WIDTHS = range(64, 4096 + 1, 64)


@dataclass(frozen=True, slots=True)
class Preset:
    """A named size.

    Args:
        budget_mb: Megabytes (10**6 bytes) of bf16.
        vocabulary: Pieces of the tokenizer.
    """

    budget_mb: float
    vocabulary: int


PRESETS = {"10m": Preset(20, 8192), "30m": Preset(60, 12288), "60m": Preset(120, 16384)}


@dataclass(frozen=True, slots=True)
class Shape:
    """Everything that decides how many parameters there are.

    Args:
        vocabulary: Pieces.
        width: Of the hidden states.
        layers: How many.
        tied: Whether embedding and output head are one matrix.
    """

    vocabulary: int
    width: int
    layers: int
    tied: bool = True

    @property
    def feed_forward(self) -> int:
        """Width inside the feed-forward."""
        return math.ceil(self.width * 8 / 3 / 64) * 64

    @property
    def head(self) -> int:
        """Width of an attention head."""
        return 64 if self.width >= 256 else 32

    @property
    def parameters(self) -> int:
        """How many numbers are trained."""
        layer = 4 * self.width**2 + 3 * self.width * self.feed_forward + 2 * self.width
        return (1 if self.tied else 2) * self.vocabulary * self.width + self.layers * layer + self.width

    @property
    def bytes(self) -> int:
        """Of all parameters in bf16."""
        return BYTES * self.parameters


def fitting(budget_mb: float, vocabulary: int, *, tied: bool = True) -> Shape:
    """The shape for a budget, by the rule above.

    Args:
        budget_mb: Megabytes (10**6 bytes) of bf16.
        vocabulary: Pieces of the tokenizer.
        tied: Whether embedding and output head are one matrix.

    Raises:
        InputError: If not even one layer of the smallest width fits.
    """
    found: list[Shape] = []
    for width in WIDTHS:
        empty = Shape(vocabulary, width, 0, tied)
        layer = Shape(vocabulary, width, 1, tied).bytes - empty.bytes
        layers = (round(budget_mb * 10**6) - empty.bytes) // layer
        if layers >= 1:
            found.append(Shape(vocabulary, width, layers, tied))
    if not found:
        raise InputError(
            f"nothing fits {budget_mb:g} MB with {vocabulary} pieces",
            hint="Raise --budget-mb or lower --vocabulary.",
        )
    return min(found, key=lambda shape: (_off(shape), -shape.parameters))


def _off(shape: Shape) -> float:
    return abs(math.log(shape.width / (PROPORTION * shape.layers)))


def config_of(shape: Shape, context: int) -> LlamaConfig:
    """The shape as `transformers` knows it.

    Args:
        shape: Of the base.
        context: Tokens it is said to take.
    """
    return LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        intermediate_size=shape.feed_forward,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.width // shape.head,
        num_key_value_heads=shape.width // shape.head,
        head_dim=shape.head,
        max_position_embeddings=context,
        tie_word_embeddings=shape.tied,
        rms_norm_eps=1e-6,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=PAD,
    )


def random_model(shape: Shape, context: int, seed: int) -> LlamaForCausalLM:
    """A model with fresh float32 weights that depend on the seed alone.

    Normal with a deviation of 0.02; what writes into the residual stream has 0.02 / sqrt(2 layers).
    """
    model = LlamaForCausalLM(config_of(shape, context))
    generator = torch.Generator().manual_seed(derive_seed("weights", seed))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                nn.init.ones_(parameter)
            else:
                into_stream = name.endswith(("o_proj.weight", "down_proj.weight"))
                deviation = 0.02 / math.sqrt(2 * shape.layers) if into_stream else 0.02
                parameter.normal_(0.0, deviation, generator=generator)
    model.generation_config = GenerationConfig(bos_token_id=0, eos_token_id=[0, END_OF_TURN], pad_token_id=PAD)
    return model
