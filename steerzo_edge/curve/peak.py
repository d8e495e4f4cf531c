"""The most memory that this process had since a reset."""

from contextlib import suppress
from pathlib import Path

import torch

from steerzo_edge.estimate.plan import RUNTIME_BYTES


def reset_peak(device: torch.device) -> None:
    """Forgets the peak so far. Where the system does not allow it, the peak of the load counts too.

    Args:
        device: Of the model.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_bytes(device: torch.device) -> int:
    """The peak: on a CPU of the resident set; on CUDA what torch reserved, and the estimate of CUDA's own context.

    Args:
        device: Of the model.
    """
    if device.type == "cuda":
        return RUNTIME_BYTES + torch.cuda.max_memory_reserved(device)
    status = Path("/proc/self/status").read_text()
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
