"""Renames fields of stored documents; a step of `database.py` calls it, so it never changes once released."""

from copy import deepcopy
from typing import Any


def current_problem(document: dict[str, Any]) -> dict[str, Any]:
    """A copy of a problem document whose faults say `fix` where they said `mend`."""
    renamed = deepcopy(document)
    for fault in renamed.get("errors", ()):
        if "mend" in fault:
            fault["fix"] = fault.pop("mend")
    return renamed
