"""A lock for building models: one at a time in a process, and torch's default float type is restored after it.

Inside it torch's compiler is not loaded: see `libraries.py`.

`transformers` changes that default, which all threads share, while it builds a model, and restores it afterwards.
If two threads build at once, the second one saves the value that the first has set, and restores that in the end.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

import torch

from steerzo_edge.model.libraries import without_compiler

_LOCK = RLock()


@contextmanager
def building() -> Iterator[None]:
    """Use this block around every call that lets `transformers` build a model.

    Note:
        Other threads see the changed default in the meantime, so the engine names the type of each tensor it makes.
    """
    with _LOCK:
        before = torch.get_default_dtype()
        try:
            with without_compiler():
                yield
        finally:
            torch.set_default_dtype(before)
