"""CUDA graphs: a forward of fixed shapes is recorded once and replayed, without a launch for each kernel.

It pays where launches are what a step waits for: small models, short rows, few probes. Shapes must repeat, so rows
are packed to multiples (`data.packing`), and a shape is recorded when it comes for the second time. What the
forward reads besides its inputs (weights, the copies of the adapter) must stay where it is.

Has not been measured on a GPU yet, so profiles leave it off.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

Inputs = TypeVar("Inputs")
Replay = Callable[[], Tensor]


class Graphs:
    """Recorded forwards, by variant and shape.

    Args:
        most: How many are kept; the one that was used longest ago goes first.
        record: Records a call and returns what replays it. By default a CUDA graph.
    """

    def __init__(self, most: int = 16, record: Callable[[Replay], Replay] | None = None) -> None:
        self._most = most
        self._record = record or _recorded
        self._kept: OrderedDict[Hashable, tuple[Any, Replay]] = OrderedDict()
        self._seen: set[Hashable] = set()

    def run(self, call: Callable[[Inputs], Tensor], inputs: Inputs, variant: Hashable) -> Tensor:
        """`call(inputs)`, replayed if these shapes have come before.

        Args:
            call: A forward; it must read no tensor that is made anew for every call, but its inputs.
            inputs: Dataclasses and tuples of tensors.
            variant: What else the work depends on; one `call` for each.
        """
        key = (variant, _shapes(inputs))
        if key not in self._kept:
            if key not in self._seen:  # the first time also lets libraries set themselves up
                self._seen.add(key)
                return call(inputs)
            still = _copied(inputs)
            self._kept[key] = still, self._record(lambda: call(still))
            if len(self._kept) > self._most:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        still, replay = self._kept[key]
        for place, tensor in zip(_tensors(still), _tensors(inputs), strict=True):
            place.copy_(tensor)
        return replay().clone()

    def clear(self) -> None:
        """Forgets all recordings: what they read has moved."""
        self._kept.clear()
        self._seen.clear()


def _recorded(call: Replay) -> Replay:
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = call()

    def replay() -> Tensor:
        graph.replay()
        return output

    return replay


def _shapes(value: Any) -> Hashable:
    """All that two inputs must share to go through the same recording."""
    if isinstance(value, Tensor):
        return tuple(value.shape), value.dtype
    if is_dataclass(value):
        return type(value), tuple(_shapes(getattr(value, name)) for name in _read(value))
    if isinstance(value, tuple):
        return tuple(_shapes(part) for part in value)
    return value if isinstance(value, int) else None


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
        return
    parts = [getattr(value, name) for name in _read(value)] if is_dataclass(value) else value
    for part in parts if isinstance(parts, list | tuple) else ():
        yield from _tensors(part)


def _copied(value: Any) -> Any:
    """The same with tensors of its own."""
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, tuple):
        return tuple(_copied(part) for part in value)
    if not is_dataclass(value) or isinstance(value, type):
        return value
    return replace(value, **{name: _copied(getattr(value, name)) for name in _read(value)})


def _read(value: Any) -> list[str]:
    """The fields that a forward reads: not those marked as only telling where the tensors came from."""
    return [field.name for field in fields(value) if not field.metadata.get("origin")]
