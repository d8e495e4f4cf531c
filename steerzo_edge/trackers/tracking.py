"""All trackers of a run."""

import time
from collections.abc import Callable, Mapping, Sequence

from steerzo_edge.records import EvalRecord, Record
from steerzo_edge.trackers.delivery import Delivery, Report
from steerzo_edge.trackers.tracker import EndState, TrackedRun, TrackerBase

JOIN_S = 30.0


class Tracking:
    """Sends a run's records to its trackers; nothing here blocks but `join`.

    Args:
        trackers: Their settings.
        run: What is tracked.
        recorded: The records of the run's journal from an index up to another; called from other threads.
        total: How many there are now.
        report: Called once for a tracker that is left out, from any thread: its kind, and the reason.
        after: The tracking of an earlier part of the same run.
    """

    def __init__(
        self,
        trackers: Sequence[TrackerBase],
        run: TrackedRun,
        *,
        recorded: Callable[[int, int], Sequence[Record]],
        total: int,
        report: Report,
        after: "Tracking | None" = None,
    ) -> None:
        earlier: Mapping[str, Delivery] = {} if after is None else after._deliveries
        self._deliveries: dict[str, Delivery] = {
            config.key: Delivery(config, run, recorded, total, report, earlier.get(config.key))
            for config in {config.key: config for config in trackers}.values()
        }

    def add(self, record: Record) -> None:
        """Queues a record that is in the journal."""
        for delivery in self._deliveries.values():
            delivery.add(record)

    def close(self, state: EndState | None = None, kept: EvalRecord | None = None) -> None:
        """Ends the tracking once everything was sent; returns at once, and does nothing the second time.

        Args:
            state: The final state; None if it is not known yet, because the run goes on later.
            kept: The evaluation of the version that was kept.
        """
        for delivery in self._deliveries.values():
            delivery.close(state, kept)

    @property
    def has_ended(self) -> bool:
        """Whether all trackers have taken everything, or are left out."""
        return not any(delivery.is_alive for delivery in self._deliveries.values())

    def join(self, timeout_s: float = JOIN_S) -> None:
        """Waits for all trackers together; those that take longer are reported and left out."""
        until = time.monotonic() + timeout_s
        for delivery in self._deliveries.values():
            delivery.join(max(0.0, until - time.monotonic()))
