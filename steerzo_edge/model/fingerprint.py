"""A short hash of a model's weights, by which runs and adapters recognize their base."""

import hashlib

import torch
from transformers import PreTrainedModel


def fingerprint(model: PreTrainedModel) -> str:
    """Hash of a model's tensors: names, shapes, types, and up to 64 KiB of each.

    Note:
        Taken before the first forward: bitsandbytes repacks 4-bit weights in place on some CPUs.
    """
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        sample = tensor.detach().flatten()
        sample = sample[:: max(1, sample.numel() * sample.element_size() // 65536)].contiguous().cpu()
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(sample.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
