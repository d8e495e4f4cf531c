"""Looks at every tensor that torch makes, for tests of memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class _Outputs(TorchDispatchMode):
    def __init__(self, seen: list[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen = seen

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = function(*args, **(kwargs or {}))
        self.seen += [leaf.to("meta") for leaf in tree_leaves(found) if isinstance(leaf, Tensor)]
        return found


@contextmanager
def outputs() -> Iterator[list[Tensor]]:
    """Every tensor that comes out of an operation inside the block, as a tensor without storage."""
    seen: list[Tensor] = []
    with _Outputs(seen), torch.inference_mode():
        yield seen
