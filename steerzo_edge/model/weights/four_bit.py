"""4-bit weights of bitsandbytes: what nf4 and fp4 share.

On CUDA bitsandbytes' kernels do both products. On a CPU the engine expands the weight and multiplies (900 GFLOP/s
measured on two cores, with 3 % for the expansion); bitsandbytes' own CPU kernel reaches 550 there, but is 3 times
faster than expanding when there is a single token, so generation uses that. The kernel repacks its weights, so a
machine that has the kernel (AVX512-BF16) stores them twice after the first prompt: half a byte a weight more.
Without it, expanded copies are kept up to a bound: see `expanded_copies.py`.

A call of that kernel takes 20 microseconds before it multiplies anything, so layers with the same input (queries,
keys and values) are multiplied in one call: their repacked weights are one tensor, and each layer's own is a view.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import BitsAndBytesConfig, PreTrainedModel

from steerzo_edge.model.libraries import without_compiler
from steerzo_edge.model.matmul import goes_by_row, linear, linear_by_row, product_dtype
from steerzo_edge.model.weights.expanded_copies import COPIES, ExpandedCopy
from steerzo_edge.model.weights.library import bnb, kernels
from steerzo_edge.model.weights.storage import FrozenLinear

PACKED_ROWS = 32
_KERNEL = torch.ops.bitsandbytes.gemv_4bit.default


class FourBitLinear:
    """Multiplies by a 4-bit layer. See `FrozenLinear`.

    Args:
        module: A `bnb.nn.Linear4bit`.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module: Any = module
        self._packed: Packed | None = None
        self._joined: _Joined | None = None
        self._copy: ExpandedCopy | None = None

    @property
    def bias(self) -> Tensor | None:
        """(O,) or None."""
        return cast(Tensor | None, self._module.bias)

    def batch_matmul(self, x: Tensor) -> Tensor:
        """See `FrozenLinear`."""
        if x.device.type != "cpu":
            return cast(Tensor, self._module(x))
        return linear(x, self.weight(product_dtype(x)), self._module.bias)

    def decode_matmul(self, x: Tensor) -> Tensor:
        """See `FrozenLinear`."""
        if self._packed is not None and x.dtype == torch.bfloat16:
            return self._packed(x)
        packed = self._repacked(x)
        if packed is not None:
            return packed(x)
        if goes_by_row(x):
            return linear_by_row(x, self._expanded(x.dtype), self._module.bias)
        return self.batch_matmul(x)

    @classmethod
    def joined(cls, layers: "Sequence[FourBitLinear]", x: Tensor) -> Callable[[Tensor], Tensor] | None:
        """See `JoinableLinear`."""
        if any(layer._repacked(x) is None for layer in layers):
            return None
        if len({layer.bias is None for layer in layers}) > 1:
            return None
        found = _Joined(layers)
        for layer in layers:
            layer._joined = found
        return found

    def _repacked(self, x: Tensor) -> "Packed | None":
        """The layer for bitsandbytes' kernel; None if the kernel cannot multiply this input by this layer.

        The kernel rounds every input to bf16. It fails where a row ends inside a block of 64 weights, and its
        packing fails where the number of rows is not a multiple of 32.
        """
        module = self._module
        packs = x.device.type == "cpu" and getattr(module, "support_avx512bf16_for_cpu", False)
        if not packs or x.dtype != torch.bfloat16:
            return None
        if module.in_features % module.weight.quant_state.blocksize or module.out_features % PACKED_ROWS:
            return None
        if self._packed is None:
            self._packed = Packed.of(deepcopy(module).eval())  # bitsandbytes packs in evaluation mode only
        return self._packed

    def _expanded(self, dtype: torch.dtype) -> Tensor:
        """The weight, (O, D), from the copy that is kept if there is room for it."""
        if self._copy is not None and self._copy.weight.dtype == dtype:
            return self._copy.weight
        weight = self.weight(dtype)
        self._copy = COPIES.keep(weight)
        return weight

    def weight(self, dtype: torch.dtype) -> Tensor:
        """See `FrozenLinear`."""
        weight = self._module.weight
        return cast(Tensor, kernels.dequantize_4bit(weight.data, weight.quant_state).to(dtype))

    def forget_packed(self) -> None:
        """See `FrozenLinear`."""
        self._packed = self._copy = None
        if self._joined is not None:
            self._joined.forget()


@dataclass(slots=True)
class Packed:
    """A 4-bit layer's repacked weight, and bitsandbytes' kernel for it.

    The operator itself is called: the module around it takes 15 of 50 microseconds for a token of the bundled base.

    Args:
        weight: (O, D / 2) bytes, in blocks of 32 rows.
        scales: (D / 64, O) bf16.
        code: (16,) float32, the values of the codes.
        bias: (O,) or None.
    """

    weight: Tensor
    scales: Tensor
    code: Tensor
    bias: Tensor | None
    _others: tuple[Any, ...] = field(init=False)

    def __post_init__(self) -> None:
        rows, half = self.weight.shape
        self._others = [rows, 2 * half], self.scales, self.code, 2 * half // self.scales.shape[0]

    @classmethod
    def of(cls, module: Any) -> "Packed":
        """Repacks the weight of a `bnb.nn.Linear4bit`, which cannot be used otherwise after that."""
        with without_compiler():  # the operator is marked for it, which shows at the first call
            module(torch.zeros(1, module.in_features, dtype=torch.bfloat16))
        state = module.weight.quant_state
        return cls(module.weight.data, state.absmax, state.code, module.bias)

    def __call__(self, x: Tensor) -> Tensor:
        """(..., D) bf16 to (..., O)."""
        out: Tensor = _KERNEL(x, self.weight, *self._others)
        return out if self.bias is None else out.add_(self.bias)


class _Joined:
    """Repacked layers whose weights are one tensor.

    Args:
        layers: Repacked, with the same number of in-features.
    """

    def __init__(self, layers: Sequence[FourBitLinear]) -> None:
        self._layers = layers
        self._packed: Packed | None = None

    def __call__(self, x: Tensor) -> Tensor:
        if self._packed is None:
            self._packed = self._pack(x)
        return self._packed(x)

    def forget(self) -> None:
        """Frees the joined weight; it is made again when it is needed."""
        self._packed = None

    def _pack(self, x: Tensor) -> Packed:
        parts = [cast(Packed, layer._repacked(x)) for layer in self._layers]
        biases = [part.bias for part in parts if part.bias is not None]
        whole = Packed(
            torch.cat([part.weight for part in parts]),
            torch.cat([part.scales for part in parts], 1),
            parts[0].code,
            torch.cat(biases) if biases else None,
        )
        for part, weight in zip(parts, whole.weight.split([len(part.weight) for part in parts]), strict=True):
            part.weight = weight
        return whole


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
    can_restore: bool = True

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

    def restored(self, tensors: Mapping[str, Tensor], compute_dtype: torch.dtype) -> nn.Module:
        """See `Storage`."""
        weight, bias = tensors["weight"], tensors.get("bias")
        begin = "weight."
        scales = {key.removeprefix(begin): tensor for key, tensor in tensors.items() if key.startswith(begin)}
        codes = bnb.nn.Params4bit.from_prequantized(weight, scales, device=weight.device)
        state = codes.quant_state
        _check_sizes(weight, state)
        outputs, inputs = state.shape
        made = bnb.nn.Linear4bit(
            inputs,
            outputs,
            bias=bias is not None,
            compute_dtype=compute_dtype,
            compress_statistics=state.nested,
            quant_type=state.quant_type,
            device="meta",
        )
        made.weight, made.quant_state, codes.module = codes, state, made
        if bias is not None:
            made.bias = nn.Parameter(bias, requires_grad=False)
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


def _check_sizes(codes: Tensor, state: Any) -> None:
    """Compares the sizes that the kernels rely on.

    Raises:
        ValueError: If they contradict each other.
    """
    outputs, inputs = state.shape
    scales = -(-outputs * inputs // state.blocksize)
    found = [codes.nbytes, state.absmax.numel(), state.code.numel()]
    expected = [-(-outputs * inputs // 2), scales, 16]
    if state.nested:
        found += [state.state2.absmax.numel(), state.state2.code.numel()]
        expected += [-(-scales // state.state2.blocksize), 256]
    if found != expected:
        raise ValueError(f"the sizes of 4-bit codes and scales are {found}, and those of a weight {expected}")
