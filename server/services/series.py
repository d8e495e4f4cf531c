"""The recorded series of a job, thinned out for drawing curves.

Every step carries the sums of seconds and of lost candidates up to it, so that leaving out steps loses neither.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Final

from server.store.jobs import JobTable
from server.store.rows import Event

DECISIONS: Final = ("tune", "watch")
LOGGED: Final = ("state", "log", *DECISIONS)


def series(job_table: JobTable, job: str, points: int | None = None) -> dict[str, Any]:
    """The recorded series of a job.

    Args:
        job_table: The table of jobs, with their events.
        job: The job's id.
        points: Most steps returned, evenly spread, the first and the last among them; None returns all.

    Returns:
        "steps", each with "elapsed" (seconds of all steps up to it, the search before the first one included) and
        "lost" (candidates dropped or rejected up to it); "evals"; "decisions"; "log" with states, messages and
        decisions in their order, each with "kind" and "at" (seconds since the epoch).
    """
    steps = [event.data for event in job_table.events.read(job, kinds=("step",), limit=-1)]
    evaluations = [event.data for event in job_table.events.read(job, kinds=("eval",), limit=-1)]
    logged = job_table.events.read(job, kinds=LOGGED, limit=-1)
    decisions = [event.data for event in logged if event.kind in DECISIONS]
    before = sum(decision.get("seconds", 0.0) for decision in decisions)
    elapsed = accumulate((step["seconds"] for step in steps), initial=before)
    lost = accumulate((step["dropped"] + step.get("rejected", 0) for step in steps), initial=0)
    next(elapsed), next(lost)
    whole = [step | {"elapsed": s, "lost": n} for step, s, n in zip(steps, elapsed, lost, strict=True)]
    return {
        "job": job,
        "steps": thinned(whole, points),
        "evals": evaluations,
        "decisions": decisions,
        "log": [_line(event) for event in logged],
    }


def thinned(steps: Sequence[dict[str, Any]], points: int | None) -> list[dict[str, Any]]:
    """The steps, thinned out evenly.

    Args:
        steps: In order.
        points: Most steps returned, 2 or more; None returns all.
    """
    if points is None or len(steps) <= points:
        return list(steps)
    last = len(steps) - 1
    return [steps[round(index * last / (points - 1))] for index in range(points)]


def _line(event: Event) -> dict[str, Any]:
    return {**event.data, "kind": event.kind, "at": event.at}
