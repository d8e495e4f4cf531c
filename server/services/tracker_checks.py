"""Decides which trackers a job over HTTP may have: the kinds that the operator allows, where the operator says.

A request chooses no path and no address: else anyone who may post a job could write to the server's disk, or have
the server send requests into its own network.
"""

from collections.abc import Collection, Sequence

from steerzo_edge.errors import Fault, ProfileError
from steerzo_edge.trackers.tracker import TrackerBase


def check_trackers(trackers: Sequence[TrackerBase], allowed: Collection[str]) -> None:
    """Refuses trackers that a job may not have.

    Args:
        trackers: Those of the job's profile.
        allowed: Kinds that the operator allows.

    Raises:
        ProfileError: Naming every tracker that is not allowed, and every setting that chooses a place.
        ConflictError: If a client is not installed.
    """
    faults: list[Fault] = []
    for place, tracker in enumerate(trackers):
        where = f"trackers.{place}"
        if tracker.kind not in allowed:
            names = ", ".join(sorted(allowed)) or "none"
            faults.append(Fault(where, "kind", repr(tracker.kind), f"this server allows: {names}"))
        for name in sorted(tracker.places):
            value = getattr(tracker, name)
            if value is not None:
                fix = "leave it out: the operator of a server chooses where trackers write"
                faults.append(Fault(where, name, repr(str(value)), fix))
    if faults:
        raise ProfileError(
            "; ".join(map(str, faults)),
            faults=faults,
            hint="The operator allows kinds of trackers with STEERZO_TRACKERS.",
        )
    for tracker in trackers:
        tracker.check_installed()
