"""What is stored of a finished run."""

from typing import Any

from steerzo_edge.run import Result


def stored_result(result: Result, peak_bytes: int | None = None) -> dict[str, Any]:
    """The hash of the adapter, and the evaluations before and after, JSON-ready.

    Args:
        result: Of the run.
        peak_bytes: The most memory while it ran, where that is stored.
    """
    return ({} if peak_bytes is None else {"peak_bytes": peak_bytes}) | {
        "sha256": result.sha256,
        "step": result.step,
        "forwards": result.forwards,
        "before": None if result.before is None else result.before.as_dict(),
        "after": None if result.after is None else result.after.as_dict(),
    }
