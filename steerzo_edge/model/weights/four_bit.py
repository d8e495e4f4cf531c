"""4-bit weights of bitsandbytes: what nf4 and fp4 share.

On CUDA bitsandbytes' kernels do both products. On a CPU the engine expands the weight and multiplies (900 GFLOP/s
measured on two cores, with 3 % for the expansion); bitsandbytes' own CPU kernel reaches 550 there, but is 3 times
faster than expanding when there is a single token, so generation uses that. The kernel repacks its weights, so a
machine that has the kernel (AVX512-BF16) stores them twice after the first prompt: half a byte a weight more.
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import BitsAndBytesConfig, PreTrainedModel

from steerzo_edge.model.libraries import without_compiler
from steerzo_edge.model.weights.library import bnb, kernels
from steerzo_edge.model.weights.storage import FrozenLinear

PACKED_ROWS = 32


class FourBitLinear:
    """Multiplies by a 4-bit layer. See `FrozenLinear`.

    Args:
        module: A `bnb.nn.Linear4bit`.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module: Any = module
        self._packed: _Packed | None = None

    @property
    def bias(self) -> Tensor | None:
        """(O,) or None."""
        return cast(Tensor | None, self._module.bias)

    def batch_matmul(self, x: Tensor) -> Tensor:
        """See `FrozenLinear`."""
        if x.device.type != "cpu":
            return cast(Tensor, self._module(x))
        bias = self._module.bias
        return nn.functional.linear(x, self.weight(x.dtype), None if bias is None else bias.to(x.dtype))

    def decode_matmul(self, x: Tensor) -> Tensor:
        """See `FrozenLinear`."""
        if self._packed is not None and x.dtype == torch.bfloat16:
            return self._packed(x)
        module = self._module
        packs = x.device.type == "cpu" and getattr(module, "support_avx512bf16_for_cpu", False)
        # The kernel rounds every input to bf16. It fails where a row ends inside a block of 64 weights, and its
        # packing fails where the number of rows is not a multiple of 32.
        if not packs or x.dtype != torch.bfloat16:
            return self.batch_matmul(x)
        if module.in_features % module.weight.quant_state.blocksize or module.out_features % PACKED_ROWS:
            return self.batch_matmul(x)
        self._packed = _Packed(deepcopy(module).eval(), x)  # bitsandbytes packs in evaluation mode only
        return self._packed(x)

    def weight(self, dtype: torch.dtype) -> Tensor:
        """See `FrozenLinear`."""
        weight = self._module.weight
        return cast(Tensor, kernels.dequantize_4bit(weight.data, weight.quant_state).to(dtype))

    def forget_packed(self) -> None:
        """See `FrozenLinear`."""
        self._packed = None


class _Packed:
    """A 4-bit layer's repacked weight, and bitsandbytes' kernel for it.

    The operator itself is called: the module around it takes 15 of 50 microseconds for a token of the bundled base.
    """

    def __init__(self, module: nn.Module, x: Tensor) -> None:
        with without_compiler():  # the operator is marked for it, which shows at the first call
            module(x)  # repacks
        weight: Any = module.weight
        state = weight.quant_state
        self._bias: Any = module.bias
        self._weight = weight.data
        self._others = list(state.shape), state.absmax, state.code, state.blocksize

    def __call__(self, x: Tensor) -> Tensor:
        out: Tensor = torch.ops.bitsandbytes.gemv_4bit.default(x, self._weight, *self._others)
        return out if self._bias is None else out.add_(self._bias)


@dataclass(frozen=True, slots=True)
class FourBit:
    """4-bit codes with a scale for each block of 64 weights. See `Storage`.

    Args:
        kind: "nf4" or "fp4".
        double_quantization: Whether the scales are quantized too: to one byte, with a float32 for 256 of them.
    """

    kind: str
    double_quantization: bool
    quantized: bool = True
    can_quantize: bool = True
    linear: type[FrozenLinear] = FourBitLinear
    bytes_per_output: int = 0
    packages: tuple[str, ...] = ()
    install: str = ""

    def bytes_per_weight(self, itemsize: int) -> float:
        """See `Storage`."""
        return 0.5 + (1 + 4 / 256 if self.double_quantization else 4) / 64

    def is_released(self, quantization_config: Mapping[str, Any]) -> bool:
        """See `Storage`."""
        method = quantization_config.get("quant_method") or "bitsandbytes"
        kind = quantization_config.get("bnb_4bit_quant_type", "fp4")
        return method == "bitsandbytes" and bool(quantization_config.get("load_in_4bit")) and kind == self.kind

    def matches(self, module: nn.Module) -> bool:
        """See `Storage`; nf4 and fp4 layers are of one class, which handles both."""
        return isinstance(module, bnb.nn.Linear4bit)

    def layer(self, weight: Tensor, bias: Tensor | None, compute_dtype: torch.dtype) -> nn.Module:
        """See `Storage`."""
        outputs, inputs = weight.shape
        options = {"compress_statistics": self.double_quantization, "quant_type": self.kind}
        made = bnb.nn.Linear4bit(
            inputs, outputs, bias=bias is not None, compute_dtype=compute_dtype, device="meta", **options
        )
        codes = bnb.nn.Params4bit(weight.to(compute_dtype), requires_grad=False, module=made, **options)
        made.weight = codes.to(weight.device)
        if bias is not None:
            made.bias = nn.Parameter(bias.to(compute_dtype), requires_grad=False)
        return cast(nn.Module, made.eval())

    def load_options(self, compute_dtype: torch.dtype) -> Mapping[str, Any]:
        """See `Storage`."""
        config = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=self.kind,
            bnb_4bit_use_double_quant=self.double_quantization,
            bnb_4bit_compute_dtype=compute_dtype,
        )
        return {"quantization_config": config}

    def finish(self, model: PreTrainedModel, layers: Mapping[str, nn.Module], compute_dtype: torch.dtype) -> None:
        """Lets layers that were saved with another compute type expand their weights to this one."""
        for module in model.modules():
            if isinstance(module, bnb.nn.Linear4bit):
                module.compute_dtype = compute_dtype
