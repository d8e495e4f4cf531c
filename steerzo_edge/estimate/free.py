"""Free memory of a device, within a container's limit."""

import psutil
import torch

from steerzo_edge.estimate.cgroup import cgroup_free_bytes


def free_bytes(device: torch.device, loaded: int = 0) -> int:
    """Bytes that a run may use on a device: free memory within a container's limit, and the loaded base's own.

    Args:
        device: The device of the run.
        loaded: Bytes of the base's weights, if they are loaded; not needed on CUDA, where torch counts them.
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
    available = int(psutil.virtual_memory().available)
    limited = cgroup_free_bytes()
    return loaded + (available if limited is None else min(available, limited))
