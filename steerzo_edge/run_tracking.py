"""The trackers of a run, as its profile names them."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from steerzo_edge import __version__
from steerzo_edge.records import Record
from steerzo_edge.run import Run
from steerzo_edge.trackers.delivery import Report
from steerzo_edge.trackers.points import parameters_of
from steerzo_edge.trackers.tracker import TrackedRun
from steerzo_edge.trackers.tracking import Tracking

log = logging.getLogger(__name__)


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


@contextmanager
def tracked(run: Run, name: str) -> Iterator[Tracking]:
    """The trackers of a run in the foreground; at the end the run is closed, and they are waited for last.

    The block passes records on with `sent`, and closes the tracking when the run has succeeded.

    Args:
        run: Opened, and not begun yet.
        name: For people.

    Raises:
        ConflictError: If the client of a tracker is not installed.
    """
    try:
        for tracker in run.profile.trackers:
            tracker.check_installed()
        tracking = tracking_of(run, name, report=_report)
    except BaseException:
        run.close()
        raise
    try:
        try:
            yield tracking
        finally:
            run.close()
    except KeyboardInterrupt:
        tracking.close("paused")
        raise
    except BaseException:
        tracking.close("failed")
        raise
    finally:
        tracking.join()


def sent(records: Iterable[Record], tracking: Tracking) -> Iterator[Record]:
    """The records of a run; each is given to the trackers once the caller asks for the next."""
    for record in records:
        yield record
        tracking.add(record)


def _report(kind: str, reason: str, message: str) -> None:
    log.warning("tracker %s is left out from here on: %s", kind, f"{reason}: {message}" if message else reason)
