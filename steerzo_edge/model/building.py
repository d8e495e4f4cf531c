"""One model is built at a time in a process, and torch's default float type is the same afterwards.

`transformers` sets that default while it builds a model, and sets back what it found. It belongs to all threads:
of two that build at once, the second finds what the first has set, and leaves it for good.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

import torch

_LOCK = RLock()


@contextmanager
def building() -> Iterator[None]:
    """Everything that lets `transformers` build a model does so in here.

    Note:
        Other threads see the changed default meanwhile: numbers of the engine name their type.
    """
    with _LOCK:
        before = torch.get_default_dtype()
        try:
            yield
        finally:
            torch.set_default_dtype(before)
