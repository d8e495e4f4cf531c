"""What is stored of a finished run."""

from typing import Any

from steerzo_edge.run import Result


def stored_result(result: Result) -> dict[str, Any]:
    """The hash of the adapter, and the evaluations before and after, JSON-ready."""
    return {
        "sha256": result.sha256,
        "step": result.step,
        "forwards": result.forwards,
        "before": None if result.before is None else result.before.as_dict(),
        "after": None if result.after is None else result.after.as_dict(),
    }
