"""bitsandbytes, imported without what this engine does not use.

While it is imported, bitsandbytes compiles optimizers and a fallback for machines without its native library. To
set that up torch loads its compiler: 41 MiB that stay resident. Here these functions are left as they are,
uncompiled; its native kernels, which this engine calls, do not pass through torch's compiler.
"""

from collections.abc import Callable
from typing import Any

import torch


def _uncompiled(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Stands in for `torch.compile`, as a decorator with or without arguments."""
    return (lambda decorated: decorated) if function is None else function


_COMPILE = torch.compile
torch.compile = _uncompiled  # type: ignore[assignment]
try:
    import bitsandbytes as bnb
    from bitsandbytes import functional as kernels
finally:
    torch.compile = _COMPILE

__all__ = ["bnb", "kernels"]
