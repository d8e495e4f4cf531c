"""Measures the rate of matrix products of this machine: the limit that step times are compared with."""

import platform
import time
from collections.abc import Callable
from statistics import median
from typing import TypeVar

import torch

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
    """Measured rate of a large square matrix product, in floating-point operations a second."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(size, size, generator=generator).to(device, dtype) for _ in range(2))
    seconds = [timed(lambda: a @ b, device)[0] for _ in range(repeats + 2)]
    return 2 * size**3 / median(seconds[2:])


def description(device: torch.device) -> str:
    """The machine in a line."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    threads = torch.get_num_threads()
    kernels = torch.backends.cpu.get_cpu_capability()
    return f"{_cpu_name()} with {kernels}, {threads} threads, torch {torch.__version__}"


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()
