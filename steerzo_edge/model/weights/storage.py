"""What a way of storing weights must be able to do: the protocols behind `model.quantization`.

A `Storage` is one way (nf4, int8, ...): it says what it costs, makes layers and recognizes them. A `FrozenLinear`
multiplies by one layer that is stored so. A `JoinableLinear` can also multiply by several layers in one call.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel


class FrozenLinear(Protocol):
    """Multiplies by one frozen layer, without warnings.

    A frozen layer is used in two situations, and each has its own product: a pass of the engine puts hundreds of
    tokens through the layer at once, generation puts one.

    Args:
        module: A linear layer that its storage `matches`.
    """

    def __init__(self, module: nn.Module) -> None: ...

    @property
    def bias(self) -> Tensor | None:
        """(O,) or None."""
        ...

    def batch_matmul(self, x: Tensor) -> Tensor:
        """The engine's product: (..., D) to (..., O) in the input's type; a row's bits do not depend on others."""
        ...

    def decode_matmul(self, x: Tensor) -> Tensor:
        """Generation's product: (..., D) to (..., O) in the input's type, fast for single tokens."""
        ...

    def weight(self, dtype: torch.dtype) -> Tensor:
        """The weight that the layer multiplies by: (O, D) in `dtype`, a fresh tensor or a view."""
        ...

    def forget_packed(self) -> None:
        """Frees the copy of the weight that `decode_matmul` multiplies by, if there is one; it is made again."""
        ...


@runtime_checkable
class JoinableLinear(FrozenLinear, Protocol):
    """A `FrozenLinear` whose class can multiply by several layers with the same input in one call."""

    @classmethod
    def joined(cls, layers: "Sequence[Any]", x: Tensor) -> Callable[[Tensor], Tensor] | None:
        """Generation's product by all of some layers at once.

        Args:
            layers: Of this class, with the same number of in-features.
            x: An input that the product must be able to take.

        Returns:
            From (..., D) to (..., sum of O): bit for bit the results of `decode_matmul`, concatenated. None if
            these layers cannot be multiplied so.
        """
        ...


class Storage(Protocol):
    """One way to store the weights of the decoder's linear layers."""

    @property
    def kind(self) -> str:
        """The value of `model.quantization`."""
        ...

    @property
    def quantized(self) -> bool:
        """Whether weights are codes, which a product expands."""
        ...

    @property
    def can_quantize(self) -> bool:
        """Whether 16-bit weights can be stored so; False if bases must be released in this format."""
        ...

    @property
    def linear(self) -> type[FrozenLinear]:
        """The class that multiplies by one layer."""
        ...

    @property
    def bytes_per_output(self) -> int:
        """Bytes that each out-feature takes besides its weights."""
        ...

    @property
    def packages(self) -> tuple[str, ...]:
        """Python packages that loading needs and that are not installed with this project."""
        ...

    @property
    def install(self) -> str:
        """The command that installs these packages."""
        ...

    def bytes_per_weight(self, itemsize: int) -> float:
        """Bytes of one weight with its share of the scales.

        Args:
            itemsize: Bytes of the compute type.
        """
        ...

    def is_released(self, quantization_config: Mapping[str, Any]) -> bool:
        """Whether a base with this `quantization_config` in its config.json was saved in this storage."""
        ...

    def matches(self, module: nn.Module) -> bool:
        """Whether a module is a linear layer whose weight is stored so."""
        ...

    def layer(self, weight: Tensor, bias: Tensor | None, compute_dtype: torch.dtype) -> nn.Module:
        """Makes a frozen layer from a weight, on the weight's device.

        Args:
            weight: (O, D), any float type.
            bias: (O,) or None.
            compute_dtype: The type of activations and of expanded weights.

        Raises:
            BaseModelError: If the storage cannot quantize.
        """
        ...

    @property
    def can_restore(self) -> bool:
        """Whether `restored` makes its layers again."""
        ...

    def restored(self, tensors: Mapping[str, Tensor], compute_dtype: torch.dtype) -> nn.Module:
        """Makes a frozen layer again, without copying a tensor.

        Args:
            tensors: What its `state_dict` gave, on one device.
            compute_dtype: The type of activations and of expanded weights.

        Raises:
            ValueError: If they do not fit each other, so that a kernel could read beyond their end.
        """
        ...

    def load_options(self, compute_dtype: torch.dtype) -> Mapping[str, Any]:
        """Arguments of `from_pretrained` that make `transformers` store the weights so while it loads 16-bit files.

        Args:
            compute_dtype: The type of activations and of expanded weights.
        """
        ...

    def finish(self, model: PreTrainedModel, layers: Mapping[str, nn.Module], compute_dtype: torch.dtype) -> None:
        """Changes a model that `transformers` has just loaded, where its options do not suffice.

        Args:
            model: Loaded with `load_options`, or from files that are stored so; its layers may be replaced.
            layers: The linear layers of its decoder, by dotted name.
            compute_dtype: The type of activations and of expanded weights.
        """
        ...
