"""The most memory that this process had since a reset."""

from contextlib import suppress

import torch

from steerzo_edge.estimate.plan import RUNTIME_BYTES
from steerzo_edge.model.resident import forget_peak, resident


def reset_peak(device: torch.device) -> None:
    """Forgets the peak so far. Where the system does not allow it, the peak of the load counts too.

    Args:
        device: Of the model.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):
        forget_peak()


def peak_bytes(device: torch.device) -> int:
    """The peak: on a CPU of the resident set; on CUDA what torch reserved, and the estimate of CUDA's own context.

    Args:
        device: Of the model.
    """
    if device.type == "cuda":
        return RUNTIME_BYTES + torch.cuda.max_memory_reserved(device)
    return resident("VmHWM")
