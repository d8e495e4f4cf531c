"""Reads one tensor of a GGUF file at a time, and expands it in parts: no other copy of it exists meanwhile."""

from math import prod
from typing import Final

import numpy as np
import torch
from gguf.constants import GGML_QUANT_SIZES
from gguf.quants import dequantize
from torch import Tensor

from steerzo_edge.errors import BaseModelError
from steerzo_edge.model.gguf.header import Header

_PART: Final = 1 << 20


def read_tensor(header: Header, key: str, dtype: torch.dtype, *, name: str) -> Tensor:
    """Reads a tensor.

    Args:
        header: Of the file.
        key: llama.cpp's name.
        dtype: Of the result.
        name: The base's name, for messages.

    Raises:
        BaseModelError: If its type cannot be read.
        OSError: If the file ends early.
    """
    place = header.tensors[key]
    count, size = GGML_QUANT_SIZES[place.kind]
    width = place.shape[-1]
    rows = prod(place.shape[:-1])
    found = torch.empty(rows, width, dtype=dtype)
    step = max(1, _PART // width)
    with header.path.open("rb") as file:
        file.seek(place.begin)
        for start in range(0, rows, step):
            part = min(step, rows - start)
            raw = np.fromfile(file, np.uint8, part * (width // count) * size)
            if raw.size < part * (width // count) * size:
                raise OSError(f"{header.path.name} ends within {key}")
            try:
                numbers = dequantize(raw.reshape(part, -1), place.kind)
            except NotImplementedError:
                raise BaseModelError(
                    f"base model {name!r} has a tensor {key} of type {place.kind.name}, which cannot be read",
                    hint="F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1 and the K-quants can.",
                ) from None
            found[start : start + part] = torch.from_numpy(np.ascontiguousarray(numbers)).view(part, width)
    return found.view(place.shape)
