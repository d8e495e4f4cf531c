"""The machine in a line, for tables of what was measured on it."""

import platform

import torch


def description(device: torch.device) -> str:
    """The machine in a line.

    Args:
        device: That is used.
    """
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    threads = torch.get_num_threads()
    counted = "1 thread" if threads == 1 else f"{threads} threads"
    kernels = torch.backends.cpu.get_cpu_capability()
    return f"{_cpu_name()} with {kernels}, {counted}, torch {torch.__version__}"


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()
