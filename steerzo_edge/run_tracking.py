"""The trackers of a run, as its profile names them."""

from steerzo_edge import __version__
from steerzo_edge.run import Run
from steerzo_edge.trackers.delivery import Report
from steerzo_edge.trackers.points import parameters_of
from steerzo_edge.trackers.tracker import TrackedRun
from steerzo_edge.trackers.tracking import Tracking


def tracking_of(run: Run, name: str, *, report: Report, after: Tracking | None = None) -> Tracking:
    """Opens the trackers of a run, each in a thread of its own; what the journal has and they lack is sent first.

    Args:
        run: Opened, and not begun yet.
        name: For people.
        report: As in `Tracking`.
        after: As in `Tracking`.
    """
    profile = run.profile
    parameters = parameters_of(
        profile.identity(), seed=run.seed, trained_parameters=run.size, steerzo_edge=__version__
    )
    return Tracking(
        profile.trackers,
        TrackedRun(name, run.directory, parameters),
        recorded=run.recorded_between,
        total=run.record_count,
        report=report,
        after=after,
    )
