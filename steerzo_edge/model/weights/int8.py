"""int8: 8-bit codes with a float32 scale for each out-feature, by bitsandbytes. Source: arXiv:2208.07339.

bitsandbytes logs a warning at every call unless the input is float16:

- on CUDA the input is cast to float16 first, which is what the kernel does next anyway;
- on a CPU the int8 weights are expanded and multiplied (weight-only int8). Quantizing the activations too, as the
  CUDA kernel does, is 4 times slower there (0.40 s against 0.10 s for 2,560 tokens of the bundled base), and rounds
  the loss in steps that can hide the difference between two probes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

import torch
from torch import Tensor, nn
from transformers import BitsAndBytesConfig, PreTrainedModel

from steerzo_edge.model.matmul import linear, product_dtype
from steerzo_edge.model.weights.library import bnb
from steerzo_edge.model.weights.storage import FrozenLinear, Storage


class Int8Linear:
    """Multiplies by an int8 layer. See `FrozenLinear`.

    Args:
        module: A `bnb.nn.Linear8bitLt`.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module: Any = module

    @property
    def bias(self) -> Tensor | None:
        """(O,) or None."""
        return cast(Tensor | None, self._module.bias)

    def batch_matmul(self, x: Tensor) -> Tensor:
        """See `FrozenLinear`."""
        if x.device.type != "cpu":
            return cast(Tensor, self._module(x.half()).to(x.dtype))
        return linear(x, self.weight(product_dtype(x)), self._module.bias)

    def decode_matmul(self, x: Tensor) -> Tensor:
        """See `FrozenLinear`; the same product."""
        return self.batch_matmul(x)

    def weight(self, dtype: torch.dtype) -> Tensor:
        """See `FrozenLinear`."""
        weight, state = self._module.weight, self._module.state
        codes = weight.data if state.CB is None else state.CB
        scales = weight.SCB if state.SCB is None else state.SCB
        return cast(Tensor, codes.to(dtype, copy=True).mul_(scales.unsqueeze(1) / 127))

    def forget_packed(self) -> None:
        """See `FrozenLinear`; there is no copy."""


@dataclass(frozen=True, slots=True)
class Int8:
    """8-bit codes. See `Storage`."""

    kind: str = "int8"
    quantized: bool = True
    can_quantize: bool = True
    linear: type[FrozenLinear] = Int8Linear
    bytes_per_output: int = 4
    packages: tuple[str, ...] = ()
    install: str = ""
    can_restore: bool = True

    def bytes_per_weight(self, itemsize: int) -> float:
        """See `Storage`."""
        return 1.0

    def is_released(self, quantization_config: Mapping[str, Any]) -> bool:
        """See `Storage`."""
        method = quantization_config.get("quant_method") or "bitsandbytes"
        return method == "bitsandbytes" and bool(quantization_config.get("load_in_8bit"))

    def matches(self, module: nn.Module) -> bool:
        """See `Storage`."""
        return isinstance(module, bnb.nn.Linear8bitLt)

    def layer(self, weight: Tensor, bias: Tensor | None, compute_dtype: torch.dtype) -> nn.Module:
        """See `Storage`."""
        outputs, inputs = weight.shape
        made = _empty(inputs, outputs, bias=bias is not None)
        made.weight = bnb.nn.Int8Params(weight.half(), requires_grad=False, has_fp16_weights=False)
        if bias is not None:
            made.bias = nn.Parameter(bias.to(compute_dtype), requires_grad=False)
        return cast(nn.Module, made.to(weight.device).eval())  # moving the codes quantizes them

    def restored(self, tensors: Mapping[str, Tensor], compute_dtype: torch.dtype) -> nn.Module:
        """See `Storage`."""
        codes, scales, bias = tensors["weight"], tensors["SCB"], tensors.get("bias")
        outputs, inputs = codes.shape
        if codes.dtype != torch.int8 or scales.shape != (outputs,):
            raise ValueError(f"{tuple(scales.shape)} scales for 8-bit codes of {tuple(codes.shape)}")
        made = _empty(inputs, outputs, bias=bias is not None)
        made.weight = bnb.nn.Int8Params(codes, requires_grad=False, has_fp16_weights=False, CB=codes, SCB=scales)
        if bias is not None:
            made.bias = nn.Parameter(bias, requires_grad=False)
        return cast(nn.Module, made.eval())

    def load_options(self, compute_dtype: torch.dtype) -> Mapping[str, Any]:
        """See `Storage`."""
        return {"quantization_config": BitsAndBytesConfig(load_in_8bit=True)}

    def finish(self, model: PreTrainedModel, layers: Mapping[str, nn.Module], compute_dtype: torch.dtype) -> None:
        """See `Storage`; nothing is left to do."""


def _empty(inputs: int, outputs: int, *, bias: bool) -> Any:
    # The threshold is that of `load_options`: on CUDA inputs above it are multiplied in 16 bits.
    return bnb.nn.Linear8bitLt(inputs, outputs, bias=bias, has_fp16_weights=False, threshold=6.0, device="meta")


STORAGE: Final[Storage] = Int8()
