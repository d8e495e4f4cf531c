"""The states of a job and the transitions between them, as one table.

queued --> running --> succeeded | failed | cancelled
  ^          |
  +- paused -+                  a request to pause, then to resume
  +- interrupted -+             a crash, or a transient error
  +- failed                     a request to resume
"""

from typing import Final, Literal

from steerzo_edge.errors import ConflictError

State = Literal["queued", "running", "paused", "interrupted", "succeeded", "failed", "cancelled"]
Requested = Literal["pause", "cancel"]

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
# A running job reaches the requested state at the end of its present step, a waiting job at once.
STATE_REQUESTED: Final[dict[Requested, Literal["paused", "cancelled"]]] = {"pause": "paused", "cancel": "cancelled"}
HINT: Final[dict[State, str]] = {
    "succeeded": "It has ended; POST /jobs makes another.",
    "failed": "POST /jobs/{id}/resume continues it from its last step.",
    "cancelled": "It has ended and keeps its adapter; POST /jobs makes another.",
}


def check_transition(job: str, old: State, new: State) -> None:
    """Refuses a change of state that the table does not list.

    Raises:
        ConflictError: Naming both states.
    """
    if new not in NEXT[old]:
        raise ConflictError(f"job {job} is {old} and cannot become {new}", hint=HINT.get(old))
