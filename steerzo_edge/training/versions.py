"""Saved versions of a run: parameters and the rule's state after some step, in a sealed file."""

from pathlib import Path

from steerzo_edge.storage.sealed import load_sealed, save_sealed
from steerzo_edge.training.parts import Parts
from steerzo_edge.training.rewinding import Version


def save_version(path: Path, step: int, parts: Parts) -> None:
    """Writes the present state; the file is replaced as a whole.

    Args:
        path: Of the file.
        step: Finished steps.
        parts: Parameters and rule, in their state after that step.

    Raises:
        OSError: If the disk is full or fails.
    """
    tensors = {"parameters": parts.subset.parameters}
    tensors |= {f"rule.{key}": value for key, value in parts.rule.state().items()}
    save_sealed(path, tensors, {"step": str(step)})


def load_version(path: Path, *, at_most: int) -> Version | None:
    """Step and tensors of a version; None if it is missing, damaged, or later than `at_most` steps."""
    found = load_sealed(path)
    if found is None or int(found[0]["step"]) > at_most:
        return None
    return int(found[0]["step"]), found[1]
