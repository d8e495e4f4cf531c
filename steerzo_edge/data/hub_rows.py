"""Rows of a dataset on the Hugging Face hub, by the package `datasets`, which is an extra.

hub:owner/name               the split "train" of the default configuration
hub:owner/name:config        of another configuration
hub:owner/name:config:split  another split; hub:owner/name::split with the default configuration
"""

import json
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any, Final

from steerzo_edge.errors import ConflictError, DatasetError, InputError

PREFIX: Final = "hub:"
INSTALL: Final = 'pip install "steerzo-edge[datasets]"'


def is_hub_dataset(name: str) -> bool:
    """Whether a name means a dataset on the hub, and not a file."""
    return name.startswith(PREFIX)


def hub_rows(name: str) -> bytes:
    """Fetches the rows of a split, or takes them from the package's cache.

    Args:
        name: As above.

    Returns:
        JSON lines; class labels are their names.

    Raises:
        InputError: If the name is not of that form.
        ConflictError: If the package is missing.
        DatasetError: If there is no such dataset, configuration or split, or it cannot be fetched.
    """
    repository, config, split = _parts(name)
    try:
        package = import_module("datasets")
    except ImportError:
        raise ConflictError(f"{name} needs the package datasets, which is not installed", hint=INSTALL) from None
    try:
        rows = package.load_dataset(repository, config, split=split)
    except Exception as error:  # the package has many kinds, and those of the network
        raise DatasetError(
            f"{name} cannot be loaded: {type(error).__name__}: {error}",
            hint="Check name, configuration and split on the hub; HF_TOKEN gives access to private datasets.",
        ) from None
    return _lines(rows, _class_names(rows.features))


def _parts(name: str) -> tuple[str, str | None, str]:
    parts = name.removeprefix(PREFIX).split(":")
    if not parts[0] or len(parts) > 3:
        raise InputError(f"{name!r} is not hub:owner/name, hub:owner/name:config or hub:owner/name:config:split")
    config, split = [*parts[1:], "", ""][:2]
    return parts[0], config or None, split or "train"


def _class_names(features: Mapping[str, Any]) -> dict[str, list[str]]:
    """The names of the classes of every field that stores classes as numbers."""
    return {key: list(feature.names) for key, feature in features.items() if hasattr(feature, "names")}


def _lines(rows: Iterable[Mapping[str, Any]], names: Mapping[str, list[str]]) -> bytes:
    lines = []
    for row in rows:
        # -1 marks a row without a label.
        labels = {key: known[row[key]] for key, known in names.items() if row[key] is not None and row[key] >= 0}
        lines.append(json.dumps({**row, **labels}, default=str, ensure_ascii=False) + "\n")
    return "".join(lines).encode()
