"""Whether the tensors of a checkpoint have the names that the model gives them."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter

from steerzo_edge.model.sources.streaming import Read, missing_from


def by_own_names(model: PreTrainedModel, files: Mapping[str, Read]) -> dict[str, Read] | None:
    """The tensors by the model's own names; None if `transformers` has to fuse or split any of them.

    Checkpoints that were saved without the language model's head leave out the first part of each name, which
    `base_model_prefix` restores. Some families were renamed as a whole, which `transformers` lists.

    Args:
        model: Empty.
        files: By the names in the files.
    """
    steps = get_model_conversion_mapping(model)
    if _keeps_float32(model) or any(isinstance(step, WeightConverter) for step in steps):
        return None
    own = set(model.state_dict())
    prefix = f"{model.base_model_prefix}."

    def own_name(name: str) -> str:
        for candidate in (name, prefix + name, _renamed(name, steps)):
            if candidate in own:
                return candidate
        return name

    named = {own_name(name): read for name, read in files.items()}
    is_unclear = len(named) < len(files) or (named.keys() - own and missing_from(model, named.keys()))
    return None if is_unclear else named


def _renamed(name: str, steps: Sequence[Any]) -> str:
    for step in steps:
        name, _ = step.rename_source_key(name)
    return name


def _keeps_float32(model: PreTrainedModel) -> bool:
    """Whether some modules stay in float32 whatever the compute type; `transformers` knows which."""
    kept = set(model._keep_in_fp32_modules_strict or ())
    return bool(kept) or (model.dtype == torch.float16 and bool(model._keep_in_fp32_modules))
