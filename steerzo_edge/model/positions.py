"""How many positions a base has, and whether a token's position is turned into the same numbers in every company.

Two ways of stretching rotary positions let `transformers` choose a forward's frequencies by the largest position
among all its tokens: then what one request is answered depends on how long another has become. Longrope has one set
of factors up to the length it was trained with first and another beyond; up to that length it is used, with the
first set alone. Dynamic NTK makes its frequencies anew as texts grow, and keeps them for the next forward.
"""

import logging
from collections.abc import Mapping
from typing import Any

from transformers import PretrainedConfig

from steerzo_edge.errors import BaseModelError

DEFAULT = 2048
log = logging.getLogger(__name__)


def context_of(config: PretrainedConfig) -> int:
    """Most tokens a model can take: those it has positions for, of longrope those that it was trained with first.

    Args:
        config: The model's.
    """
    most = int(getattr(config, "max_position_embeddings", DEFAULT))
    first = [
        ropes.get("original_max_position_embeddings") for ropes in _ropes(config) if _kind(ropes) == "longrope"
    ]
    return min([most, *(int(length) for length in first if length)])


def check_positions(config: PretrainedConfig, name: str) -> None:
    """Refuses a model whose frequencies depend on what it was given before, and tells of a context that is cut.

    Args:
        config: The model's.
        name: For messages.

    Raises:
        BaseModelError: If its positions are stretched by dynamic NTK.
    """
    if any("dynamic" in _kind(ropes) for ropes in _ropes(config)):
        raise BaseModelError(
            f"base model {name!r} stretches its positions as texts grow (rope_type dynamic), so that one text's "
            "numbers depend on the length of others",
            hint="In a copy of it, set rope_type in config.json to one that is fixed: default, linear or yarn.",
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
