"""bitsandbytes, imported without what this engine does not use.

While it is imported, bitsandbytes compiles optimizers and a fallback for machines without its native library. To
set that up torch loads its compiler: 41 MiB that stay resident. Here these functions are left as they are,
uncompiled; its native kernels, which this engine calls, do not pass through torch's compiler.
"""

from steerzo_edge.model.libraries import without_compiler

with without_compiler():
    import bitsandbytes as bnb
    from bitsandbytes import functional as kernels

__all__ = ["bnb", "kernels"]
