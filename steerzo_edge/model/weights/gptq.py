"""gptq: bases that were released in GPTQ, loaded through optimum and gptqmodel. Source: arXiv:2210.17323.

GPTQ calibrates on data, so this engine does not make it. The class of a layer, and how it packs its weight, depend
on the kernels that the machine has: a layer is recognized by its buffers, and its weight is read off its products.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from steerzo_edge.errors import BaseModelError
from steerzo_edge.model.weights.storage import FrozenLinear, Storage


class GptqLinear:
    """Multiplies by a GPTQ layer. See `FrozenLinear`.

    Args:
        module: Of a class that gptqmodel chooses.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module: Any = module

    @property
    def bias(self) -> Tensor | None:
        """(O,) or None."""
        return cast(Tensor | None, self._module.bias)

    def batch_matmul(self, x: Tensor) -> Tensor:
        """See `FrozenLinear`; the kernels round to a 16-bit type of their own."""
        return cast(Tensor, self._module(x).to(x.dtype))

    def decode_matmul(self, x: Tensor) -> Tensor:
        """See `FrozenLinear`; the same product."""
        return self.batch_matmul(x)

    def weight(self, dtype: torch.dtype) -> Tensor:
        """See `FrozenLinear`; the layer's product with each unit vector, however its kernel packs the weight."""
        buffer = next(self._module.buffers())
        bias = self._module.bias
        with torch.no_grad():
            units = torch.eye(int(self._module.in_features), dtype=dtype, device=buffer.device)
            columns: Tensor = self._module(units).to(dtype)
        return (columns if bias is None else columns - bias.to(dtype)).T.contiguous()

    def forget_packed(self) -> None:
        """See `FrozenLinear`; there is no copy."""


@dataclass(frozen=True, slots=True)
class Gptq:
    """Mostly 4-bit codes, with a scale and a zero for each group of 128 weights. See `Storage`."""

    kind: str = "gptq"
    quantized: bool = True
    can_quantize: bool = False
    linear: type[FrozenLinear] = GptqLinear
    bytes_per_output: int = 0
    packages: tuple[str, ...] = ("gptqmodel", "optimum")
    install: str = 'pip install "steerzo-edge[gptq]"'
    can_restore: bool = False

    def bytes_per_weight(self, itemsize: int) -> float:
        """See `Storage`."""
        return 0.5 + 2.5 / 128

    def is_released(self, quantization_config: Mapping[str, Any]) -> bool:
        """See `Storage`."""
        return quantization_config.get("quant_method") == "gptq"

    def matches(self, module: nn.Module) -> bool:
        """See `Storage`."""
        return hasattr(module, "qweight") and hasattr(module, "in_features") and hasattr(module, "out_features")

    def layer(self, weight: Tensor, bias: Tensor | None, compute_dtype: torch.dtype) -> nn.Module:
        """See `Storage`.

        Raises:
            BaseModelError: Always.
        """
        raise BaseModelError("this engine does not quantize weights in GPTQ", hint="Use a base released in GPTQ.")

    def restored(self, tensors: Mapping[str, Tensor], compute_dtype: torch.dtype) -> nn.Module:
        """See `Storage`.

        Raises:
            BaseModelError: Always: what its buffers mean depends on the kernels that the machine has.
        """
        raise BaseModelError("weights in GPTQ cannot be restored", hint="Load the release of the base.")

    def load_options(self, compute_dtype: torch.dtype) -> Mapping[str, Any]:
        """See `Storage`; the config of a base that was released in GPTQ says it all."""
        return {}

    def finish(self, model: PreTrainedModel, layers: Mapping[str, nn.Module], compute_dtype: torch.dtype) -> None:
        """See `Storage`; nothing is left to do."""


STORAGE: Final[Storage] = Gptq()
