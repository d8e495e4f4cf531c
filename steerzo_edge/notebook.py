"""A run or a job in a notebook: a progress bar while it trains, and its curves.

    history = train(Run("runs/first", base, profile, rows))      a run of this process
    history = follow(client.events(job["id"]), job["steps"])     a job of a server
    history.plot()

Outside of a notebook, or without IPython, the progress is printed as `steerzo train` prints it. The curves need
matplotlib (the extra `plot`).
"""

import io
import sys
import time
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from html import escape
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol

from steerzo_edge.cli.output import display as text_display
from steerzo_edge.cli.output import sentence
from steerzo_edge.errors import InputError
from steerzo_edge.run import Result, Run
from steerzo_edge.run_tracking import sent, tracked
from steerzo_edge.settings.profile import searches

# Seconds between two updates of the bar.
UPDATE_S = 0.5
KINDS = ("step", "eval", "tune", "watch")
Event = tuple[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that a notebook shows.

    Args:
        png: Its bytes.
    """

    png: bytes

    def _repr_png_(self) -> bytes:
        return self.png


@dataclass(slots=True)
class History:
    """What a run or a job has recorded so far; a notebook shows it as a bar, its evaluations and its curves.

    Args:
        steps: Length of the run.
        remarks: Sentences on its rows.
        events: Its records: kind ("step", "eval", "tune", "watch"), and fields as in the API.
        result: Of a run that has been finished here.
    """

    steps: int
    remarks: tuple[str, ...] = ()
    events: list[Event] = field(default_factory=list)
    result: Result | None = None

    def of(self, kind: str) -> list[Mapping[str, Any]]:
        """The records of one kind, oldest first."""
        return [record for one, record in self.events if one == kind]

    @property
    def step(self) -> int:
        """Finished steps."""
        steps = self.of("step")
        return steps[-1]["step"] + 1 if steps else 0

    def __str__(self) -> str:
        lines = [*self.remarks, f"step {self.step} of {self.steps}"]
        return "\n".join([*lines, *(sentence(kind, record) for kind, record in self.events if kind != "step")])

    def _repr_html_(self) -> str:
        curves = ""
        if self.of("step") and find_spec("matplotlib") is not None:
            curves = (
                f'<img alt="loss over steps" src="data:image/png;base64,{b64encode(self.plot().png).decode()}">'
            )
        return bar(self) + curves

    def plot(self) -> Picture:
        """The training loss of each step, and the loss and metrics of each evaluation.

        Raises:
            InputError: If matplotlib is missing.
        """
        if find_spec("matplotlib") is None:
            raise InputError("curves need matplotlib", hint="pip install 'steerzo-edge[plot]'")
        figure = import_module("matplotlib.figure").Figure(figsize=(9, 3), layout="constrained")
        losses, metrics = figure.subplots(1, 2)
        steps, evaluations = self.of("step"), self.of("eval")
        losses.plot([one["step"] for one in steps], [one["loss"] for one in steps], alpha=0.5, label="training")
        judged = [one["step"] for one in evaluations]
        losses.plot(judged, [one["loss"] for one in evaluations], marker="o", label="validation")
        losses.set(xlabel="step", ylabel="loss, nats")
        losses.legend()
        for name in evaluations[-1].get("metrics", {}) if evaluations else ():
            metrics.plot(judged, [one["metrics"].get(name) for one in evaluations], marker="o", label=name)
        metrics.set(xlabel="step", ylabel="metric")
        if metrics.lines:
            metrics.legend()
        written = io.BytesIO()
        figure.savefig(written, format="png")
        return Picture(written.getvalue())


def train(run: Run) -> History:
    """Runs to the end, shows the progress, and writes the adapter.

    Args:
        run: A new run, or one that was interrupted; it is closed at the end.

    Returns:
        Its records, those from before an interruption included, and the `result`.

    Raises:
        ConflictError: If the client of one of the profile's trackers is not installed.
    """
    history = History(run.profile.steps, run.remarks)
    history.events += [(record.kind, record.as_dict()) for record in run.recorded]
    with tracked(run, run.directory.resolve().name) as tracking:
        new = ((record.kind, record.as_dict()) for record in sent(run.records(), tracking))
        _shown(history, new, searching=searches(run.profile))
        history.result = run.finish()
        tracking.close("succeeded", history.result.after)
    return history


def follow(events: Iterable[Event], steps: int) -> History:
    """Shows the progress of a server's job until its events end.

    Args:
        events: Kind and data of each event, as `server.commands.client.Client.events` gives them.
        steps: The job's `steps`.
    """
    history = History(steps)
    _shown(history, (event for event in events if event[0] in KINDS))
    return history


def bar(history: History) -> str:
    """The progress as HTML: a bar, the last step, and everything that was found or decided."""
    steps = history.of("step")
    lines = [*history.remarks, *(sentence(kind, record) for kind, record in history.events if kind != "step")]
    last = sentence("step", steps[-1]) if steps else "no step yet"
    listed = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return (
        f'<progress value="{history.step}" max="{history.steps}" style="width: 60%"></progress> '
        f"{history.step} of {history.steps}<br>{escape(last)}<ul>{listed}</ul>"
    )


class _Handle(Protocol):
    def update(self, shown: object) -> None: ...


def _shown(history: History, events: Iterator[Event], *, searching: bool = False) -> None:
    """Takes the events into the history; a notebook shows a bar, anything else prints lines."""
    python = _notebook()
    if python is None:
        for line in history.remarks:
            sys.stdout.write(f"{line}\n")
        with text_display(history.steps, as_json=False, done=history.step, searches=searching) as shown:
            for kind, record in events:
                history.events.append((kind, record))
                shown.show(kind, record)
        return
    handle: _Handle = python.display(python.HTML(bar(history)), display_id=True)
    updated = time.monotonic()
    for event in events:
        history.events.append(event)
        if event[0] != "step" or time.monotonic() - updated >= UPDATE_S:
            handle.update(python.HTML(bar(history)))
            updated = time.monotonic()
    handle.update(python.HTML(bar(history)))


def _notebook() -> Any:
    """The module `IPython.display` if this process is a notebook's; else None."""
    if "IPython" not in sys.modules:  # a notebook's kernel has imported it
        return None
    if import_module("IPython").get_ipython() is None:
        return None
    return import_module("IPython.display")
