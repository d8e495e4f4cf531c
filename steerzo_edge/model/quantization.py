"""The four ways a base is kept: nf4, fp4, int8, none. All frozen, all quiet.

nf4 and fp4 run through bitsandbytes' own modules. int8 needs care, because bitsandbytes logs a warning at
every single call unless the input is float16:

- on CUDA the input is cast to float16 first, which is what the kernel does next anyway;
- on the CPU the int8 weights are dequantized and multiplied as they are (weight-only int8). Quantizing the
  activations too, as the CUDA kernel does, is 4 times slower there (0.40 s against 0.10 s for 2,560 tokens
  of the bundled base), and rounds the loss in steps that a small probe can fall into.
"""

from collections.abc import Callable
from typing import Any, Literal, cast

import bitsandbytes as bnb
import torch
from bitsandbytes import functional as kernels
from torch import Tensor, nn
from transformers import BitsAndBytesConfig
from transformers.pytorch_utils import Conv1D

Quantization = Literal["nf4", "fp4", "int8", "none"]
Linear = Callable[[Tensor], Tensor]


def quantization_config(kind: Quantization, compute_dtype: torch.dtype) -> BitsAndBytesConfig | None:
    """What `transformers` needs to quantize while loading; None for an unquantized base.

    Args:
        kind: nf4 (with double quantization), fp4, int8 or none.
        compute_dtype: The type 4-bit weights are expanded to for a product.
    """
    if kind == "none":
        return None
    if kind == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=kind,
        bnb_4bit_use_double_quant=kind == "nf4",
        bnb_4bit_compute_dtype=compute_dtype,
    )


def frozen_linear(module: nn.Module) -> Linear:
    """How to multiply by a frozen layer, quietly.

    Args:
        module: A linear layer of any of the four kinds.

    Returns:
        A function from (..., D) to (..., O) in the input's type.
    """
    if not isinstance(module, bnb.nn.Linear8bitLt):
        return module

    def int8_linear(x: Tensor) -> Tensor:
        if x.device.type == "cpu":
            return nn.functional.linear(x, dequantized(module, x.dtype), _bias(module, x.dtype))
        return module(x.half()).to(x.dtype)  # type: ignore[no-any-return]

    return int8_linear


def dequantized(module: nn.Module, dtype: torch.dtype) -> Tensor:
    """The weight a frozen layer multiplies by: (O, D) in `dtype`, a fresh tensor or a view.

    Note:
        bitsandbytes repacks 4-bit weights in place at the first product on CPUs with AVX512-BF16. A product
        with the identity reads either layout, exactly: its sums have one term.
    """
    weight: Any = module.weight
    if isinstance(module, bnb.nn.Linear8bitLt):
        codes = weight.data if module.state.CB is None else module.state.CB
        scales = weight.SCB if module.state.SCB is None else module.state.SCB
        found = codes.to(dtype, copy=True).mul_(scales.unsqueeze(1) / 127)
    elif isinstance(module, bnb.nn.Linear4bit):
        if getattr(weight.quant_state, "packing_format_for_cpu", False):
            identity = torch.eye(module.in_features, dtype=torch.bfloat16, device=weight.device)
            found = bnb.matmul_4bit(identity, weight.data, quant_state=weight.quant_state).T
        else:
            found = kernels.dequantize_4bit(weight.data, weight.quant_state)
    else:
        found = weight.T if isinstance(module, Conv1D) else weight
    return cast(Tensor, found.to(dtype))


def _bias(module: nn.Module, dtype: torch.dtype) -> Tensor | None:
    bias: Any = module.bias
    return None if bias is None else bias.to(dtype)
