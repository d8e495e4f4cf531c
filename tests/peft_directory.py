"""PEFT directories written by hand, as other training programs write them."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from steerzo_edge.model.base import Base

CONFIG: dict[str, Any] = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 8, "bias": "none"}


def lora_tensors(
    base: Base, rank: int = 4, target: str = "", seed: int = 0, size: float = 0.3
) -> dict[str, Tensor]:
    """Random pairs for every layer whose name ends in `target`."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, layer in base.bank.layers.items():
        if name.endswith(target):
            for part, shape in (("A", (rank, layer.in_features)), ("B", (layer.out_features, rank))):
                key = f"base_model.model.{name}.lora_{part}.weight"
                tensors[key] = torch.randn(shape, generator=generator) * size / shape[-1] ** 0.5
    return tensors


def lora_files(base: Base, rank: int = 4, target: str = "", seed: int = 0, **config: Any) -> dict[str, bytes]:
    """The two files of a directory, by name."""
    targets = sorted({name.rpartition(".")[2] for name in base.bank.layers if name.endswith(target)})
    return {
        "adapter_config.json": json.dumps({**CONFIG, "r": rank, "target_modules": targets, **config}).encode(),
        "adapter_model.safetensors": save(lora_tensors(base, rank, target, seed)),
    }


def written(directory: Path, files: dict[str, bytes]) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (directory / name).write_bytes(data)
    return directory


def zip_of(files: dict[str, bytes], prefix: str = "", packed: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", packed) as archive:
        for name, data in files.items():
            archive.writestr(prefix + name, data)
    return buffer.getvalue()
