"""What is stored of a finished run."""

from typing import Any

from steerzo_edge.curve.peak import peak_bytes
from steerzo_edge.run import Result, Run
from steerzo_edge.sweep.ceiling import seconds_of


def stored_result(result: Result, run: Run | None = None) -> dict[str, Any]:
    """The hash of the adapter, and the evaluations before and after, JSON-ready.

    Args:
        result: Of the run.
        run: If given, the most memory while it ran and the seconds of its training are stored too, for its sweep.
    """
    return ({} if run is None else _measured(run)) | {
        "sha256": result.sha256,
        "step": result.step,
        "forwards": result.forwards,
        "before": None if result.before is None else result.before.as_dict(),
        "after": None if result.after is None else result.after.as_dict(),
    }


def _measured(run: Run) -> dict[str, Any]:
    return {"peak_bytes": peak_bytes(run.device), "seconds": sum(map(seconds_of, run.recorded))}
