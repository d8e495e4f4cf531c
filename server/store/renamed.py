"""Settings and fields under the names they have had since version 4 of the database.

    subset.kind    core                     lora-xs
    subset         a: random | inputs       init_a: random | input-subspace
    errors         mend                     fix

A migration step calls these functions, so they never change once released: later renames get a step of their own.
"""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, Final

SUBSET_KINDS: Final[Mapping[str, str]] = {"core": "lora-xs"}
INIT_A: Final[Mapping[str, str]] = {"inputs": "input-subspace"}


def current_names(document: dict[str, Any]) -> dict[str, Any]:
    """A copy of a profile with its settings under their current names; current names stay as they are.

    Args:
        document: A profile as JSON or YAML gives it; sections may be missing.
    """
    renamed = deepcopy(document)
    subset = renamed.get("subset")
    if isinstance(subset, dict):
        if "kind" in subset:
            subset["kind"] = SUBSET_KINDS.get(subset["kind"], subset["kind"])
        if "a" in subset:
            subset["init_a"] = subset.pop("a")
        if "init_a" in subset:
            subset["init_a"] = INIT_A.get(subset["init_a"], subset["init_a"])
    return renamed


def current_problem(document: dict[str, Any]) -> dict[str, Any]:
    """A copy of a problem document whose faults say `fix` where they said `mend`."""
    renamed = deepcopy(document)
    for fault in renamed.get("errors", ()):
        if "mend" in fault:
            fault["fix"] = fault.pop("mend")
    return renamed
