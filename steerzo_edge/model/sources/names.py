"""Whether the tensors of a checkpoint have the names that the model gives them."""

from collections.abc import Mapping

import torch
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter

from steerzo_edge.model.sources.streaming import Read, missing_from


def by_own_names(model: PreTrainedModel, files: Mapping[str, Read]) -> dict[str, Read] | None:
    """The tensors by the model's own names; None if `transformers` has to rename, fuse or split any of them.

    Checkpoints that were saved without the language model's head leave out the first part of each name, which
    `base_model_prefix` restores.

    Args:
        model: Empty.
        files: By the names in the files.
    """
    if _keeps_float32(model) or any(
        isinstance(step, WeightConverter) for step in get_model_conversion_mapping(model)
    ):
        return None
    own = set(model.state_dict())
    prefix = f"{model.base_model_prefix}."
    named = {name if name in own or prefix + name not in own else prefix + name: read for name, read in files.items()}
    has_others = any(name not in own for name in named)
    return None if has_others and missing_from(model, named.keys()) else named


def _keeps_float32(model: PreTrainedModel) -> bool:
    """Whether some modules stay in float32 whatever the compute type; `transformers` knows which."""
    kept = set(model._keep_in_fp32_modules_strict or ())
    return bool(kept) or (model.dtype == torch.float16 and bool(model._keep_in_fp32_modules))
