"""Imports `transformers` without parts that this engine does not use: 70 MiB that would stay resident.

While its modules are imported they mark functions for torch's compiler, and prepare to split models over machines.
For that torch loads its compiler, sympy, and its distributed tensors. Inside `without_compiler` the marks do
nothing, and torch says that it cannot split. Afterwards `torch.compile` works as ever; one
function of `transformers`, which makes attention masks, loads the compiler when it is called.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any, Final

import torch

_COMPILER: Final = "torch._dynamo"
_MASKS: Final = f"{_COMPILER}._trace_wrapped_higher_order_op"
_MARKS: Final = ("allow_in_graph", "assume_constant_result", "disable")
# They have such marks; a model's own file, which is imported when one is loaded, uses them.
_MARKED: Final = ("transformers.modeling_utils", "transformers.masking_utils", "transformers.generation.utils")


@contextmanager
def without_compiler() -> Iterator[None]:
    """Inside the block modules are imported without torch's compiler, unless it is loaded already."""
    if _COMPILER in sys.modules:
        yield
        return
    masks: Any = ModuleType(_MASKS)
    masks.TransformGetItemToIndex = _transform
    places: list[tuple[Any, str, Callable[..., Any]]] = [
        (torch, "compile", _unmarked),
        *((torch.compiler, name, _unmarked) for name in _MARKS),
        (torch.distributed, "is_available", lambda: False),
    ]
    before = [getattr(module, name) for module, name, _ in places]
    for module, name, stand_in in places:
        setattr(module, name, stand_in)
    sys.modules |= {_COMPILER: _Marks(_COMPILER), _MASKS: masks}
    try:
        yield
    finally:
        del sys.modules[_COMPILER], sys.modules[_MASKS]
        for (module, name, _), function in zip(places, before, strict=True):
            setattr(module, name, function)


class _Marks(ModuleType):
    """Stands in for the compiler's package: every function of it is a mark that does nothing."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _unmarked


def _unmarked(function: Callable[..., Any] | None = None, *others: Any, **options: Any) -> Any:
    """Stands in for a mark, as a decorator with or without arguments."""
    return (lambda decorated: decorated) if function is None else function


def _transform() -> Any:
    return import_module(_MASKS).TransformGetItemToIndex()


with without_compiler():
    for name in _MARKED:
        import_module(name)
