"""What the process does with memory that tensors have left: kept for the next ones, returned, or bounded.

Mechanisms of the CPU, none of which changes a number that is computed:

- While a base is loaded, freed blocks return to the system at once: each tensor's source must leave the process.
- While it computes, the same large blocks are freed and allocated again and again. glibc maps blocks above 32 MiB
  afresh each time and unmaps them when they are freed; every page is then faulted in again. Expanding a 2048 x 8192
  weight took 10.5 ms so, and 1.1 ms with the blocks kept. So all blocks are kept in the heap. (Mapping every block
  above 1 MiB instead doubled the processor time of a step of a 135 M base.)
- Blocks of another size do not fit into the gaps that are left: each batch has its own number of tokens, and the
  heap grows from batch to batch. `give_back` returns the gaps; called before each forward, it costs 2 to 10 ms.
- oneDNN and its wrapper in torch each keep the kernels of the last 1,024 shapes: about 0.6 MiB a shape, and a batch
  has 15 to 30 of them. After a few dozen steps that was 660 MiB, more than all tensors of the run together. Making
  a kernel again takes 0.3 ms, and steps take as long with 16 kernels kept as with 1,024, so both are bounded.
"""

import ctypes
import gc
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_LARGEST = 2**31 - 1
_SMALL = 128 << 10
# oneDNN reads the first and torch's wrapper of it the second when the first product is computed, and not again.
_KERNEL_CACHES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
KERNELS = 16


def keep_large_blocks() -> None:
    """Sets the thresholds of glibc's malloc; does nothing with another C library. Safe to call again."""
    libc = _glibc()
    if libc is not None:
        libc.mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        libc.mallopt(_M_TRIM_THRESHOLD, _LARGEST)


@contextmanager
def giving_blocks_back() -> Iterator[None]:
    """Inside the block freed memory of 128 KiB or more returns to the system at once, and at its end the rest too.

    Note:
        Setting a threshold also stops glibc from raising it by itself, as it does when a large block is freed.
    """
    libc = _glibc()
    if libc is None:
        yield
        return
    libc.mallopt(_M_MMAP_THRESHOLD, _SMALL)
    libc.mallopt(_M_TRIM_THRESHOLD, _SMALL)
    try:
        yield
    finally:
        gc.collect()  # loading's own objects refer to each other
        libc.malloc_trim(0)


def bound_kernel_caches() -> None:
    """Bounds the caches of compiled kernels, if no product was computed yet; a value that is set already stays."""
    for name in _KERNEL_CACHES:
        os.environ.setdefault(name, str(KERNELS))


def give_back() -> None:
    """Returns the heap's free pages to the system; does nothing with another C library than glibc."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


@cache
def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
