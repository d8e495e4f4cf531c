"""The states of a job and the ways between them, as one table.

queued --> running --> succeeded | failed | cancelled
  ^          |
  +- paused -+                  somebody asks
  +- interrupted -+             a crash, or a fault that may pass
  +- failed                     somebody resumes it
"""

from typing import Final, Literal

from steerzo_edge.errors import ConflictError

State = Literal["queued", "running", "paused", "interrupted", "succeeded", "failed", "cancelled"]
Wish = Literal["pause", "cancel"]

NEXT: Final[dict[State, frozenset[State]]] = {
    "queued": frozenset({"running", "paused", "cancelled", "failed"}),
    "running": frozenset({"paused", "interrupted", "succeeded", "failed", "cancelled"}),
    "paused": frozenset({"queued", "cancelled"}),
    "interrupted": frozenset({"queued"}),
    "succeeded": frozenset(),
    "failed": frozenset({"queued"}),
    "cancelled": frozenset(),
}
FINAL: Final[frozenset[State]] = frozenset({"succeeded", "failed", "cancelled"})
# What a running job is asked for is done at the end of its present step; a waiting one is there at once.
GOAL: Final[dict[Wish, State]] = {"pause": "paused", "cancel": "cancelled"}
HINT: Final[dict[State, str]] = {
    "succeeded": "It has ended; POST /jobs makes another.",
    "failed": "POST /jobs/{id}/resume lets it go on where it was.",
    "cancelled": "It has ended and keeps its adapter; POST /jobs makes another.",
}


def check(job: str, old: State, new: State) -> None:
    """Refuses a change of state that the table does not know.

    Raises:
        ConflictError: Naming both states.
    """
    if new not in NEXT[old]:
        raise ConflictError(f"job {job} is {old} and cannot become {new}", hint=HINT.get(old))
