"""Measures the rate of matrix products of this machine: the limit that step times are compared with."""

import time
from collections.abc import Callable
from statistics import median
from typing import TypeVar

import torch

from steerzo_edge.estimate.machine import description as description
from steerzo_edge.model.matmul import product_dtype

T = TypeVar("T")


def timed(call: Callable[[], T], device: torch.device) -> tuple[float, T]:
    """Seconds until a call's work is done on the device, and its result."""
    _wait(device)
    started = time.perf_counter()
    found = call()
    _wait(device)
    return time.perf_counter() - started, found


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def matrix_rate(dtype: torch.dtype, device: torch.device, size: int = 2048, repeats: int = 12) -> float:
    """Measured rate of a large square matrix product, in floating-point operations a second.

    On a CPU without instructions for a 16-bit type the product is in float32, as the engine's are.
    """
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(size, size, generator=generator).to(device, dtype) for _ in range(2))
    a, b = a.to(product_dtype(a)), b.to(product_dtype(b))
    seconds = [timed(lambda: a @ b, device)[0] for _ in range(repeats + 2)]
    return 2 * size**3 / median(seconds[2:])
