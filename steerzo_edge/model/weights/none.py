"""none: weights in the compute type, as the base was released."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from steerzo_edge.model.matmul import goes_by_row, linear, linear_by_row, product_dtype
from steerzo_edge.model.weights.storage import FrozenLinear, Storage


def is_transposed(module: nn.Module) -> bool:
    """Whether a linear layer stores its weight as (D, O), as GPT-2 does."""
    return isinstance(module, Conv1D)


class UnquantizedLinear:
    """Multiplies by a layer in the compute type. See `FrozenLinear`.

    Args:
        module: An `nn.Linear`, or a `Conv1D`.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module: Any = module

    @property
    def bias(self) -> Tensor | None:
        """(O,) or None."""
        return cast(Tensor | None, self._module.bias)

    def batch_matmul(self, x: Tensor) -> Tensor:
        """See `FrozenLinear`."""
        kind = product_dtype(x)
        return cast(Tensor, self._module(x)) if kind == x.dtype else linear(x, self.weight(kind), self.bias)

    def decode_matmul(self, x: Tensor) -> Tensor:
        """See `FrozenLinear`; the same product."""
        return linear_by_row(x, self.weight(x.dtype), self.bias) if goes_by_row(x) else self.batch_matmul(x)

    def weight(self, dtype: torch.dtype) -> Tensor:
        """See `FrozenLinear`."""
        weight: Tensor = self._module.weight
        return (weight.T if is_transposed(self._module) else weight).to(dtype)

    def forget_packed(self) -> None:
        """See `FrozenLinear`; there is no copy."""


@dataclass(frozen=True, slots=True)
class Unquantized:
    """Weights in the compute type. See `Storage`."""

    kind: str = "none"
    quantized: bool = False
    can_quantize: bool = True
    linear: type[FrozenLinear] = UnquantizedLinear
    bytes_per_output: int = 0
    packages: tuple[str, ...] = ()
    install: str = ""
    can_restore: bool = True

    def bytes_per_weight(self, itemsize: int) -> float:
        """See `Storage`."""
        return itemsize

    def is_released(self, quantization_config: Mapping[str, Any]) -> bool:
        """See `Storage`."""
        return not quantization_config

    def matches(self, module: nn.Module) -> bool:
        """See `Storage`; classes of quantized layers extend `nn.Linear`, so `storage_of` asks this one last."""
        return isinstance(module, nn.Linear | Conv1D)

    def layer(self, weight: Tensor, bias: Tensor | None, compute_dtype: torch.dtype) -> nn.Module:
        """See `Storage`."""
        outputs, inputs = weight.shape
        made = nn.Linear(inputs, outputs, bias=bias is not None, device="meta")
        made.weight = nn.Parameter(weight.to(compute_dtype), requires_grad=False)
        if bias is not None:
            made.bias = nn.Parameter(bias.to(compute_dtype), requires_grad=False)
        return made.eval()

    def restored(self, tensors: Mapping[str, Tensor], compute_dtype: torch.dtype) -> nn.Module:
        """See `Storage`; the weight is (O, D)."""
        return self.layer(tensors["weight"], tensors.get("bias"), compute_dtype)

    def load_options(self, compute_dtype: torch.dtype) -> Mapping[str, Any]:
        """See `Storage`; even a None would hide the quantization that a base's own config names."""
        return {}

    def finish(self, model: PreTrainedModel, layers: Mapping[str, nn.Module], compute_dtype: torch.dtype) -> None:
        """See `Storage`; nothing is left to do."""


STORAGE: Final[Storage] = Unquantized()
