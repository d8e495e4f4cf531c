"""What the settings of a PEFT directory say about each layer: its rank, its scale, and whether it is a DoRA.

`rank_pattern` and `alpha_pattern` name layers by regular expressions, which must match the end of the layer's name
from one of its dots on; the first that matches counts, as in peft. Expressions come from uploads, so those that
might take long are refused.
"""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from steerzo_edge.data.rows import shown
from steerzo_edge.errors import Fault

# Initializations of which it is known that the base's weights stay as they are: what is served is the base plus the
# file's pairs. PiSSA, OLoRA, CorDA, LoftQ, LoRA-GA and others subtract from the base what their first pairs add.
KEEP_THE_BASE: Final = ("gaussian", "eva", "orthogonal", "mica")
PATTERNS: Final = ("rank_pattern", "alpha_pattern")
MOST_PATTERNS: Final = 10_000
# An expression of two repetitions takes time cubic in the length of a name, and a name is short.
MOST_REPEATS, MOST_REPEATING, MOST_CHARACTERS = 2, 64, 300
_REPEATS: Final = re.compile(r"(?<!\\)[*+{]|(?<!\\)(?<!\()\?")
_REPEATED_GROUP: Final = re.compile(r"\)[*+?{]|\(\?|\\[1-9]")


def changes_the_base(config: Mapping[str, Any]) -> bool:
    """Whether the adapter's start may have changed the base's weights too, which the file does not have."""
    start = config.get("init_lora_weights")
    return not (start is None or isinstance(start, bool) or (isinstance(start, str) and start in KEEP_THE_BASE))


def is_dora(config: Mapping[str, Any]) -> bool:
    """Whether each layer also has a magnitude for each output. Source: arXiv:2402.09353."""
    return bool(config.get("use_dora"))


def rank_of(config: Mapping[str, Any], layer: str) -> Any:
    """The rank of a layer; as written, so perhaps not a number."""
    return _by_pattern(config, "rank_pattern", layer, config.get("r"))


def alpha_of(config: Mapping[str, Any], layer: str) -> Any:
    """The alpha of a layer; as written, so perhaps not a number."""
    return _by_pattern(config, "alpha_pattern", layer, config.get("lora_alpha"))


def scale_of(config: Mapping[str, Any], layer: str, rank: int) -> float:
    """What a layer's product is multiplied by: alpha / rank, or alpha / sqrt(rank).

    Args:
        config: Without faults.
        layer: Its dotted name.
        rank: Its rank.
    """
    alpha = float(alpha_of(config, layer))
    return alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank


def pattern_faults(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Faults of `rank_pattern` and `alpha_pattern`: the setting, and what is wrong."""
    for key in PATTERNS:
        found = config.get(key) or {}
        if not isinstance(found, dict):
            yield key, "must be an object of numbers, by expressions for the names of layers"
            continue
        if len(found) > MOST_PATTERNS:
            yield key, f"may have {MOST_PATTERNS:,} entries"
            continue
        wrong = next(filter(None, (_fault(key, name, value) for name, value in found.items())), None)
        if wrong is None and sum(bool(_REPEATS.search(name)) for name in found) > MOST_REPEATING:
            wrong = f"only {MOST_REPEATING} expressions may have repetitions; write the names of the layers"
        if wrong is not None:
            yield key, wrong


def config_fault(file: str, config: Mapping[str, Any], key: str, fix: str) -> Fault:
    """A fault of a setting."""
    return Fault(file, key, shown(config.get(key)), fix)


def is_rank(value: Any) -> bool:
    """Whether a value is a whole number of at least 1."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def is_number(value: Any) -> bool:
    """Whether a value is a finite number."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer too large for a float
        return False


def _fault(key: str, name: str, value: Any) -> str | None:
    if key == "rank_pattern" and not is_rank(value):
        return f"{shown(name)}: the rank must be a whole number, at least 1"
    if not is_number(value):
        return f"{shown(name)}: alpha must be a finite number"
    if len(name) > MOST_CHARACTERS or len(_REPEATS.findall(name)) > MOST_REPEATS or _REPEATED_GROUP.search(name):
        return f"{shown(name)}: the expression is too complicated; write the names of the layers"
    try:
        re.compile(f"(.*\\.)?({name})$")
    except re.error as error:
        return f"{shown(name)} is not a regular expression: {error}"
    return None


def _by_pattern(config: Mapping[str, Any], key: str, layer: str, default: Any) -> Any:
    patterns: Mapping[str, Any] = config.get(key) or {}
    for name, value in patterns.items():
        if re.match(f"(.*\\.)?({name})$", layer):
            return value
    return default
