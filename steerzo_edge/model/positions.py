"""How many positions a base has, and whether a row's positional numbers depend on other rows.

With two ways of stretching rotary positions, `transformers` chooses the frequencies of a forward by the largest
position among all its tokens: the answer to one request would depend on the length of another. Longrope has one set
of factors up to the length of its first training and another one beyond; it is used up to that length, with the
first set only. Dynamic NTK recomputes its frequencies as texts grow, and keeps them for the next forward: it is
refused.
"""

import logging
from collections.abc import Mapping
from typing import Any

from transformers import PretrainedConfig

from steerzo_edge.errors import BaseModelError

DEFAULT = 2048
log = logging.getLogger(__name__)


def context_of(config: PretrainedConfig) -> int:
    """Most tokens that a model can take: its positions; with longrope, the length of its first training.

    Args:
        config: Of the model.
    """
    most = int(getattr(config, "max_position_embeddings", DEFAULT))
    first = [
        ropes.get("original_max_position_embeddings") for ropes in _ropes(config) if _kind(ropes) == "longrope"
    ]
    return min([most, *(int(length) for length in first if length)])


def check_positions(config: PretrainedConfig, name: str) -> None:
    """Refuses a model whose frequencies depend on other rows, and logs a warning if the context is shortened.

    Args:
        config: Of the model.
        name: The base's name, for messages.

    Raises:
        BaseModelError: If its positions are stretched by dynamic NTK.
    """
    if any("dynamic" in _kind(ropes) for ropes in _ropes(config)):
        raise BaseModelError(
            f"base model {name!r} stretches its positions as texts grow (rope_type dynamic), so the numbers of one "
            "text depend on the length of others",
            hint="In a copy of the model, set rope_type in config.json to a fixed one: default, linear or yarn.",
        )
    context, whole = context_of(config), int(getattr(config, "max_position_embeddings", DEFAULT))
    if context < whole:
        log.warning("%s has longrope positions: its context is %d tokens here, not %d", name, context, whole)


def _ropes(config: PretrainedConfig) -> list[Mapping[str, Any]]:
    """The settings of its rotary positions: one for all layers, or one for each kind of layer."""
    found = getattr(config, "rope_parameters", None) or {}
    nested = [ropes for ropes in found.values() if isinstance(ropes, Mapping)]
    return nested or [found]


def _kind(ropes: Mapping[str, Any]) -> str:
    return str(ropes.get("rope_type") or "default")
