"""When glibc returns freed memory to the system: at once while a base is loaded, and never while it computes.

Loading frees the source of every tensor: those blocks must leave the process. A computation frees and allocates the
same large blocks again and again. glibc maps blocks above 32 MiB afresh each time and unmaps them when they are
freed; every page is then faulted in again. Expanding a 2048 x 8192 weight took 10.5 ms so, and 1.1 ms with the
blocks kept. Peak memory is the same.
"""

import ctypes
import gc
import platform
from collections.abc import Iterator
from contextlib import contextmanager

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_LARGEST = 2**31 - 1
_SMALL = 128 << 10


def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None


def keep_large_blocks() -> None:
    """Sets the thresholds of glibc's malloc; does nothing with another C library. Safe to call again."""
    if libc := _glibc():
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
