"""Ends a run once its training has taken a number of seconds; steps and the search for settings count."""

from collections.abc import Iterator

from steerzo_edge.records import Record, StepRecord, TuneRecord
from steerzo_edge.run import Run


def seconds_of(record: Record) -> float:
    """The seconds that a record's work took; evaluations do not count."""
    return record.seconds if isinstance(record, StepRecord | TuneRecord) else 0.0


def records_within(run: Run, most_seconds: float | None) -> Iterator[Record]:
    """The records of a run to its end, or to the ceiling; then with a last evaluation.

    Args:
        run: The run; what it did before an interruption counts.
        most_seconds: Of training; None sets no ceiling. At least one step is made.
    """
    spent = sum(map(seconds_of, run.recorded))
    if most_seconds is not None and spent >= most_seconds:
        run.end_early()
    for record in run.records():
        spent += seconds_of(record)
        if most_seconds is not None and spent >= most_seconds:
            run.end_early()
        yield record
