"""Brings stored profiles of older versions up to date. It imports nothing heavy: a database is opened with it."""

from collections.abc import Mapping
from typing import Any


def current_names(document: Mapping[str, Any]) -> dict[str, Any]:
    """A stored profile in today's names.

    Args:
        document: A resolved profile that this or an older version wrote, into a journal or a database.

    Returns:
        A copy with `subset.a` as `init_a` and `subset.kind: core` as `lora-xs`, without `batch.cuda_graphs`,
        which had no effect on results, and with the use of memory that there was before there was a setting for it.
    """
    renamed = {key: dict(value) if isinstance(value, Mapping) else value for key, value in document.items()}
    subset, batch = renamed.get("subset"), renamed.get("batch")
    if isinstance(subset, dict):
        if subset.get("kind") == "core":
            subset["kind"] = "lora-xs"
        if "a" in subset:
            start = subset.pop("a")
            subset["init_a"] = "input-subspace" if start == "inputs" else start
    if isinstance(batch, dict):
        batch.pop("cuda_graphs", None)
        if "memory" not in renamed and "prefix_memory_mib" in batch:
            renamed["memory"] = "fast"
    return renamed
