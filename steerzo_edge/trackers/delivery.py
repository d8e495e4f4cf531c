"""Sends a run's records to one tracker, in a thread of its own, so that no client delays or stops a run.

    run ── add ──> queue, at most 10,000 records ──> thread: tracker.log, then the number of sent records to a file

A client that raises, or is so slow that the queue is full, is reported once and left out from then on. The file
says where a later process goes on. A process that is killed between sending and noting sends these records
again; each tracker's file says what becomes of them.
"""

import json
import logging
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from queue import Empty, SimpleQueue

from steerzo_edge.records import EvalRecord, Record
from steerzo_edge.storage.files import write_json
from steerzo_edge.trackers.points import point_of, summary_of
from steerzo_edge.trackers.tracker import EndState, TrackedRun, Tracker, TrackerBase

log = logging.getLogger(__name__)
MOST_WAITING = 10_000
MOST_AT_ONCE = 500
EVERY_S = 2.0
DIRECTORY = "trackers"

# Given the kind of a tracker that is left out, the reason, and the message of a client's error (else ""), which may
# quote an address with a password.
Report = Callable[[str, str, str], None]


def _nothing(begin: int, end: int) -> Sequence[Record]:
    """No records."""
    return ()


class Delivery:
    """One tracker of one run.

    Args:
        config: Settings of the tracker.
        run: What is tracked; `known_as` and `first_step` are found here.
        recorded: The records of the run's journal from an index up to another.
        total: How many there are now; those that follow are given to `add`.
        report: Called once, from any thread, if the tracker is left out.
        after: An earlier delivery of the same run, which ends first.
    """

    def __init__(
        self,
        config: TrackerBase,
        run: TrackedRun,
        recorded: Callable[[int, int], Sequence[Record]],
        total: int,
        report: Report,
        after: "Delivery | None" = None,
    ) -> None:
        self._config = config
        self._run = run
        self._recorded = recorded
        self._total = total
        self._report = report
        self._after = after
        self._waiting: SimpleQueue[Record | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._is_left_out = self._is_closed = False
        self._ended: tuple[EndState, EvalRecord | None] | None = None
        self._thread = threading.Thread(target=self._work, name=f"tracker-{config.kind}", daemon=True)
        self._thread.start()

    def add(self, record: Record) -> None:
        """Queues a record; never blocks."""
        if self._is_left_out:
            return
        if self._waiting.qsize() >= MOST_WAITING:
            self._leave_out(f"it is too slow: {MOST_WAITING} records wait")
            return
        self._waiting.put(record)

    def close(self, state: EndState | None = None, kept: EvalRecord | None = None) -> None:
        """Lets the thread end after it has sent what waits; does not wait for it. The first call counts.

        Args:
            state: The final state; None if the run goes on later.
            kept: The evaluation of the version that was kept.
        """
        if not self._is_closed:
            self._is_closed = True
            self._ended = None if state is None else (state, kept)
            self._waiting.put(None)

    def join(self, timeout_s: float | None = None) -> None:
        """Waits until the thread has ended; a tracker that takes longer is reported and left out."""
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            self._leave_out("it did not take everything in the time that a run waits for it at its end")

    @property
    def is_alive(self) -> bool:
        """Whether its thread runs."""
        return self._thread.is_alive()

    def _work(self) -> None:
        try:
            if self._after is not None:
                self._after._thread.join()
                self._after = None
            self._deliver()
        except Exception as error:  # whatever a client raises
            frames = "".join(traceback.format_tb(error.__traceback__))
            log.debug("tracker %s: %s\n%s", self._config.kind, type(error).__name__, frames)
            self._leave_out(type(error).__name__, str(error))

    def _deliver(self) -> None:
        known_as, sent = self._noted()
        records: Sequence[Record] = ()
        if sent < self._total:
            sent, records = self._resent(sent)
        self._recorded = _nothing  # it may hold the whole run, which ends before its trackers
        first_step = records[0].step if known_as is not None and records else None
        tracker = self._config.open(replace(self._run, known_as=known_as, first_step=first_step))
        try:
            self._note(tracker, sent)
            for first in range(0, len(records), MOST_AT_ONCE):
                sent = self._send(tracker, records[first : first + MOST_AT_ONCE], sent)
            is_last = False
            while not is_last and not self._is_left_out:
                records, is_last = self._next()
                sent = self._send(tracker, records, sent)
            if self._ended is not None and not self._is_left_out:
                state, kept = self._ended
                tracker.end(state, {} if kept is None else summary_of(kept))
        finally:
            tracker.close()

    def _resent(self, sent: int) -> tuple[int, Sequence[Record]]:
        """The records that were not noted as sent, and those before them of the same step; and where they begin."""
        first = self._recorded(sent, sent + 1)[0].step
        while sent > 0 and self._recorded(sent - 1, sent)[0].step == first:
            sent -= 1
        return sent, self._recorded(sent, self._total)

    def _send(self, tracker: Tracker, records: Sequence[Record], sent: int) -> int:
        if records:
            tracker.log([point_of(record) for record in records])
            self._note(tracker, sent + len(records))
        return sent + len(records)

    def _next(self) -> tuple[list[Record], bool]:
        """What has waited for at most `EVERY_S`, and whether it is the last."""
        until = time.monotonic() + EVERY_S
        found: list[Record] = []
        while len(found) < MOST_AT_ONCE:
            try:
                record = self._waiting.get(timeout=max(0.0, until - time.monotonic()))
            except Empty:
                break
            if record is None:
                return found, True
            found.append(record)
        return found, False

    @property
    def _file(self) -> Path:
        return self._run.directory / DIRECTORY / f"{self._config.key}.json"

    def _noted(self) -> tuple[str | None, int]:
        with suppress(OSError, ValueError, KeyError, TypeError):
            found = json.loads(self._file.read_text())
            if found["sent"] <= self._total:  # else it is of another run, whose journal was removed
                return str(found["known_as"]), int(found["sent"])
        return None, 0

    def _note(self, tracker: Tracker, sent: int) -> None:
        self._file.parent.mkdir(exist_ok=True)
        write_json(self._file, {"known_as": tracker.known_as, "sent": sent})

    def _leave_out(self, reason: str, message: str = "") -> None:
        with self._lock:
            if self._is_left_out:
                return
            self._is_left_out = True
        self._report(self._config.kind, reason, message)
