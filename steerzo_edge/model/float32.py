"""Lets a model compute in float32 whatever type its weights have, without changing or copying the model.

Inside the mode every operation of torch gets its 16-bit numbers in float32, one operation at a time, and what would
be rounded to 16 bits is not. Two forwards that compute the same thing in another order then agree to float32's
rounding; in bf16 the same two can be as far apart as the logits are large.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

_SIXTEEN_BITS: Final = (torch.bfloat16, torch.float16)
_aten: Final = torch.ops.aten
# They move numbers and compute nothing: 16 bits are kept, and an embedding is not expanded for a few of its rows.
_MOVES: Final = {
    _aten.embedding,
    _aten.index,
    _aten.index_select,
    _aten.gather,
    _aten.clone,
    _aten.cat,
    _aten.stack,
}
_CASTS: Final = {_aten._to_copy}
_BLOCK: Final = 1 << 22


class Float32(TorchDispatchMode):
    """A context: operations on 16-bit numbers are computed, and their results kept, in float32."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """See `TorchDispatchMode`."""
        options = dict(kwargs or {})
        packet = func.overloadpacket
        if packet in _CASTS and options.get("dtype") in _SIXTEEN_BITS:
            options["dtype"] = torch.float32
        # Views share memory and changes in place keep their target: both need the tensor itself.
        if func.namespace != "aten" or func.is_view or func._schema.is_mutable or packet in _CASTS:
            return func(*args, **options)
        if packet in _MOVES:
            return tree_map_only(Tensor, _wide, func(*args, **options))
        if packet == _aten.linear:  # inference mode leaves it whole
            return _linear(*args, **options)
        if packet in (_aten.mm, _aten.addmm):
            return _product(func, args, options)
        return func(*tree_map_only(Tensor, _wide, args), **tree_map_only(Tensor, _wide, options))


def _wide(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in _SIXTEEN_BITS else tensor


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + bias; W is expanded in blocks of rows, as in `_product`."""
    step = max(1, _BLOCK // weight.shape[1])
    parts = [torch.nn.functional.linear(_wide(x), _wide(part)) for part in weight.split(step)]
    found = parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
    return found if bias is None else found.add_(_wide(bias))


def _product(func: Callable[..., Tensor], args: tuple[Any, ...], options: dict[str, Any]) -> Tensor:
    """A product with a matrix, which may be a head of 300 MB: it is expanded in blocks of columns."""
    *others, matrix = args
    others = [_wide(other) for other in others]
    step = max(1, _BLOCK // matrix.shape[0])
    if matrix.dtype not in _SIXTEEN_BITS or matrix.shape[1] <= step or len(others) > 1:
        return func(*others, _wide(matrix), **options)
    return torch.cat([func(*others, _wide(part), **options) for part in matrix.split(step, dim=1)], dim=1)
