"""The ways a base is kept: nf4, fp4, int8, none, and gptq where it was released so. All frozen, all quiet.

A frozen layer is multiplied by in two situations, and each has its product. The engine's passes put hundreds of
tokens through it at once; generation puts one. On CUDA bitsandbytes' kernels do both. On a CPU the engine expands
a 4-bit weight and multiplies (900 GFLOP/s measured on two cores, with 3 % for the expansion); bitsandbytes' own
CPU kernel reaches 550 there, but is 3 times faster than expanding when there is a single token, so generation uses
that. It repacks its weights, so a machine that has the kernel (AVX512-BF16) holds them twice once a prompt was
answered: half a byte a weight more.

int8 needs care, because bitsandbytes logs a warning at every single call unless the input is float16:

- on CUDA the input is cast to float16 first, which is what the kernel does next anyway;
- on the CPU the int8 weights are dequantized and multiplied as they are (weight-only int8). Quantizing the
  activations too, as the CUDA kernel does, is 4 times slower there (0.40 s against 0.10 s for 2,560 tokens
  of the bundled base), and rounds the loss in steps that a small probe can fall into.
"""

from collections.abc import Callable
from copy import deepcopy
from typing import Any, Literal, cast

import bitsandbytes as bnb
import torch
from bitsandbytes import functional as kernels
from torch import Tensor, nn
from transformers import BitsAndBytesConfig
from transformers.pytorch_utils import Conv1D

Quantization = Literal["nf4", "fp4", "int8", "none", "gptq"]
Linear = Callable[[Tensor], Tensor]
PACKED_ROWS = 32
QUANTIZED = (bnb.nn.Linear4bit, bnb.nn.Linear8bitLt)


def quantization_config(kind: Quantization, compute_dtype: torch.dtype) -> BitsAndBytesConfig | None:
    """What `transformers` needs to quantize while loading; None where nothing is to be quantized.

    Args:
        kind: nf4 (with double quantization), fp4, int8 or none; gptq is never made here.
        compute_dtype: The type 4-bit weights are expanded to for a product.
    """
    if kind in ("none", "gptq"):
        return None
    if kind == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=kind,
        bnb_4bit_use_double_quant=kind == "nf4",
        bnb_4bit_compute_dtype=compute_dtype,
    )


def is_gptq(module: nn.Module) -> bool:
    """Whether a module is a linear layer of a GPTQ base; its class depends on the kernels at hand."""
    return hasattr(module, "qweight") and hasattr(module, "in_features") and hasattr(module, "out_features")


def compute_in(model: nn.Module, dtype: torch.dtype) -> None:
    """Makes 4-bit layers that were saved with another compute type expand their weights to this one.

    Args:
        model: Freshly loaded.
        dtype: The base's compute type.
    """
    for module in model.modules():
        if isinstance(module, bnb.nn.Linear4bit):
            module.compute_dtype = dtype


class FrozenLinear:
    """Multiplies by a frozen layer, quietly.

    Args:
        module: A linear layer of any of the four kinds.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._for_tokens: _Packed | None = None

    def batch_matmul(self, x: Tensor) -> Tensor:
        """The engine's product: (..., D) to (..., O) in the input's type; bits of a row do not depend on others."""
        module = self._module
        if x.device.type == "cpu" and isinstance(module, QUANTIZED):
            return nn.functional.linear(x, dequantized(module, x.dtype), _bias(module, x.dtype))
        if isinstance(module, bnb.nn.Linear8bitLt):
            return module(x.half()).to(x.dtype)  # type: ignore[no-any-return]
        found: Tensor = module(x)
        return found.to(x.dtype) if is_gptq(module) else found

    def decode_matmul(self, x: Tensor) -> Tensor:
        """Generation's product: (..., D) to (..., O) in the input's type, quick for single tokens."""
        if self._for_tokens is not None and x.dtype == torch.bfloat16:
            return self._for_tokens(x)
        module: Any = self._module
        packs = x.device.type == "cpu" and getattr(module, "support_avx512bf16_for_cpu", False)
        # The kernel rounds to bf16 whatever it is given. It fails where a row ends inside a block of 64 weights,
        # and the packing where rows do not fill groups of 32.
        if not packs or x.dtype != torch.bfloat16:
            return self.batch_matmul(x)
        if module.in_features % module.weight.quant_state.blocksize or module.out_features % PACKED_ROWS:
            return self.batch_matmul(x)
        self._for_tokens = _Packed(deepcopy(module).eval(), x)  # it does not pack while it is in training mode
        return self._for_tokens(x)

    def forget_packed(self) -> None:
        """Lets go of what `few` keeps; it makes it again."""
        self._for_tokens = None


class _Packed:
    """A 4-bit layer's repacked weight, and bitsandbytes' kernel for it.

    The operator itself is called: the module around it takes 15 of 50 microseconds for a token of the bundled base.
    """

    def __init__(self, module: nn.Module, x: Tensor) -> None:
        module(x)  # repacks
        weight: Any = module.weight
        state = weight.quant_state
        self._bias: Any = module.bias
        self._weight = weight.data
        self._others = list(state.shape), state.absmax, state.code, state.blocksize

    def __call__(self, x: Tensor) -> Tensor:
        out: Tensor = torch.ops.bitsandbytes.gemv_4bit.default(x, self._weight, *self._others)
        return out if self._bias is None else out.add_(self._bias)


def dequantized(module: nn.Module, dtype: torch.dtype) -> Tensor:
    """The weight a frozen layer multiplies by: (O, D) in `dtype`, a fresh tensor or a view."""
    if is_gptq(module):
        return _as_multiplied(module, dtype)
    weight: Any = module.weight
    if isinstance(module, bnb.nn.Linear8bitLt):
        codes = weight.data if module.state.CB is None else module.state.CB
        scales = weight.SCB if module.state.SCB is None else module.state.SCB
        found = codes.to(dtype, copy=True).mul_(scales.unsqueeze(1) / 127)
    elif isinstance(module, bnb.nn.Linear4bit):
        found = kernels.dequantize_4bit(weight.data, weight.quant_state)
    else:
        found = weight.T if isinstance(module, Conv1D) else weight
    return cast(Tensor, found.to(dtype))


def _bias(module: nn.Module, dtype: torch.dtype) -> Tensor | None:
    bias: Any = module.bias
    return None if bias is None else bias.to(dtype)


def _as_multiplied(module: nn.Module, dtype: torch.dtype) -> Tensor:
    """A GPTQ weight, whatever way its kernel has packed it: what comes out for each unit vector."""
    buffer = next(module.buffers())
    bias = _bias(module, dtype)
    with torch.no_grad():
        units = torch.eye(int(cast(Any, module).in_features), dtype=dtype, device=buffer.device)
        columns: Tensor = module(units).to(dtype)
    return (columns if bias is None else columns - bias).T.contiguous()
