"""The settings of a sweep: every combination of some values, or a list of settings.

rule.learning_rate: [0.005, 0.01]        a grid: 2 x 2 = 4 runs
method.pool: [4, 8]

- {method.kind: two-point}               a list: 2 runs
- {method.kind: all-losses, method.pool: 8}
"""

from collections.abc import Mapping, Sequence
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import yaml

from steerzo_edge.errors import InputError, ProfileError

MOST_RUNS = 100
Changes = dict[str, Any]
_HINT = "A grid is a mapping of settings to lists of values, a list has a mapping of settings for each run."


def parsed_values(settings: Sequence[str]) -> dict[str, list[Any]]:
    """Parses ["method.pool=4,8"] to {"method.pool": [4, 8]}; each value is YAML.

    Raises:
        ProfileError: If one is not key=value,value or names a setting a second time.
    """
    found: dict[str, list[Any]] = {}
    for setting in settings:
        key, equals, values = (part.strip() for part in setting.partition("="))
        if not (equals and key and values):
            raise ProfileError(
                f"--set {setting!r} is not key=value,value", hint="For example --set method.pool=4,8."
            )
        if key in found:
            raise ProfileError(
                f"--set {setting!r} names {key!r} a second time", hint="Write all values in one --set."
            )
        try:
            found[key] = yaml.safe_load(f"[{values}]")
        except yaml.YAMLError:
            raise ProfileError(f"--set {setting!r}: the values are not YAML, separated by commas") from None
    return found


def settings_of_file(path: Path) -> list[Changes]:
    """The settings that a YAML file holds: of a grid every combination, of a list each member.

    Raises:
        InputError: If there is no such file, or it is neither a grid nor a list.
    """
    if not path.is_file():
        raise InputError(f"there is no file {str(path)!r}", hint="Check the path.")
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ProfileError(f"{path.name} is not YAML: {error}", hint=_HINT) from None
    if isinstance(document, Mapping):
        return combinations(document)
    if isinstance(document, list) and document and all(isinstance(one, Mapping) for one in document):
        return [flat(one) for one in document]
    raise ProfileError(f"{path.name} is neither a grid nor a list of settings", hint=_HINT)


def combinations(grid: Mapping[str, Any]) -> list[Changes]:
    """Every combination of the values of a grid; the last setting changes fastest.

    Args:
        grid: Lists of values by setting, nested or with dotted keys.

    Raises:
        ProfileError: If a setting has no list of values, or there are too many combinations.
    """
    values = flat(grid)
    for key, found in values.items():
        if not isinstance(found, list) or not found:
            raise ProfileError(f"grid: {key} is {found!r}, and it must be a list of values", hint=_HINT)
    check_count(prod(map(len, values.values())))
    return [dict(zip(values, chosen, strict=True)) for chosen in product(*values.values())]


def crossed(some: Sequence[Changes], others: Sequence[Changes]) -> list[Changes]:
    """Every member of one list of settings together with every member of the other."""
    check_count(len(some) * len(others))
    return [{**one, **other} for one in some for other in others]


def check_count(runs: int) -> None:
    """Refuses a sweep of too many runs.

    Raises:
        ProfileError: If there are more than 100.
    """
    if runs > MOST_RUNS:
        raise ProfileError(f"these are {runs:,} runs; a sweep has at most {MOST_RUNS}", hint="Leave values out.")


def flat(settings: Mapping[str, Any], prefix: str = "") -> Changes:
    """Nested settings with dotted keys: {"method": {"pool": 4}} as {"method.pool": 4}."""
    found: Changes = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found
