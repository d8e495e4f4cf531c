"""TensorBoard: event files, written by tensorboardX.

A resumed run writes a further file, which begins with the step from which it sends points again: TensorBoard drops
points of that and later steps from the files before it. So no step is shown twice.
"""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from steerzo_edge.trackers.tracker import EndState, Point, TrackedRun, TrackerBase


class TensorBoardConfig(TrackerBase):
    """Event files for TensorBoard."""

    kind: Literal["tensorboard"] = "tensorboard"
    directory: Path | None = Field(
        None, description="Directory of the event files; by default `tensorboard` in the run's directory."
    )

    module: ClassVar[str] = "tensorboardX"
    extra: ClassVar[str] = "tensorboard"
    places: ClassVar[frozenset[str]] = frozenset({"directory"})

    def open(self, run: TrackedRun) -> "TensorBoard":
        """A new event file."""
        return TensorBoard(self.directory or run.directory / "tensorboard", run)


class TensorBoard:
    """An open event file.

    tensorboardX's `SummaryWriter` writes in a thread of its own, which hides errors; its `EventsWriter` does not.

    Args:
        directory: Made if missing.
        run: What is tracked.
    """

    def __init__(self, directory: Path, run: TrackedRun) -> None:
        from tensorboardX import summary
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto import event_pb2

        directory.mkdir(parents=True, exist_ok=True)
        self.known_as = str(directory)
        self._summary: Any = summary
        self._proto: Any = event_pb2
        # The suffix keeps two files of one second apart.
        self._file: Any = EventsWriter(str(directory / "events"), f".{time.time_ns()}")
        if run.first_step is not None:
            start = self._proto.SessionLog(status=self._proto.SessionLog.START)
            self._write(run.first_step, session_log=start)
        if run.known_as is None:
            self._write(0, summary=summary.text("run", run.name))
            self._write(0, summary=summary.text("settings", _as_block(run.parameters)))
            for one in summary.hparams(dict(run.parameters), {"eval/loss": None})[:2]:
                self._write(0, summary=one)
        self._file.flush()

    def log(self, points: Sequence[Point]) -> None:
        """Writes points as scalars, and flushes the file."""
        for point in points:
            for name, number in point.numbers.items():
                self._write(point.step, summary=self._summary.scalar(name, number))
        self._file.flush()

    def end(self, state: EndState, summary: Mapping[str, float]) -> None:
        """Writes the state and the final evaluation as a text."""
        text = {"state": state, **summary}
        self._write(0, summary=self._summary.text("result", _as_block(text)))
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _write(self, step: int, **content: Any) -> None:
        self._file.write_event(self._proto.Event(wall_time=time.time(), step=step, **content))


def _as_block(values: Mapping[str, object]) -> str:
    """TensorBoard shows texts as Markdown: indented lines are shown as they are."""
    return "".join(f"    {line}\n" for line in json.dumps(dict(values), indent=2).splitlines())
