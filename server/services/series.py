"""A job's recorded series, as curves are drawn from it: thinned out without losing what adds up.

A curve over time needs the seconds of the steps between its points, and a candidate that was dropped at a step that
is not shown was dropped all the same. So every step carries the sums up to it.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Final

from server.store.jobs import Store
from server.store.rows import Event

DECISIONS: Final = ("tune", "watch")
SAID: Final = ("state", "log", *DECISIONS)


def series(store: Store, job: str, points: int | None = None) -> dict[str, Any]:
    """Everything a job has recorded.

    Args:
        store: Where events are.
        job: Its id.
        points: At most so many steps, evenly spread, the first and the last among them; None keeps all.

    Returns:
        "steps", each with "elapsed" (seconds of all steps up to it, the search before the first one included) and
        "lost" (candidates dropped or rejected up to it); "evals"; "decisions"; "log", which is what happened in the
        order it did, each with "kind" and "at" (seconds since the epoch).
    """
    steps = [event.data for event in store.events(job, kinds=("step",), limit=-1)]
    evaluations = [event.data for event in store.events(job, kinds=("eval",), limit=-1)]
    said = store.events(job, kinds=SAID, limit=-1)
    decisions = [event.data for event in said if event.kind in DECISIONS]
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
        "log": [_line(event) for event in said],
    }


def thinned(steps: Sequence[dict[str, Any]], points: int | None) -> list[dict[str, Any]]:
    """At most so many of the steps, evenly spread.

    Args:
        steps: In order.
        points: 2 or more; None keeps all.
    """
    if points is None or len(steps) <= points:
        return list(steps)
    last = len(steps) - 1
    return [steps[round(index * last / (points - 1))] for index in range(points)]


def _line(event: Event) -> dict[str, Any]:
    return {**event.data, "kind": event.kind, "at": event.at}
