"""The states of a job and the ways between them, as one table."""

from typing import Final, Literal

from steerzo_edge.errors import ConflictError

State = Literal["queued", "running", "paused", "interrupted", "succeeded", "failed", "cancelled"]

NEXT: Final[dict[State, frozenset[State]]] = {
    "queued": frozenset({"running", "cancelled", "failed"}),
    "running": frozenset({"paused", "interrupted", "succeeded", "failed", "cancelled"}),
    "paused": frozenset({"queued", "cancelled"}),
    "interrupted": frozenset({"queued"}),
    "succeeded": frozenset(),
    "failed": frozenset(),
    "cancelled": frozenset(),
}
FINAL: Final[frozenset[State]] = frozenset(state for state, following in NEXT.items() if not following)


def check(job: str, old: State, new: State) -> None:
    """Refuses a change of state that the table does not know.

    Raises:
        ConflictError: Naming both states.
    """
    if new not in NEXT[old]:
        raise ConflictError(f"job {job} is {old} and cannot become {new}")
