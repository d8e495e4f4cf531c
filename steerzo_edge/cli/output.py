"""Prints the records of a run: a progress bar in a terminal, plain lines in a pipe, JSON lines with `--json`."""

import json
import os
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from statistics import median
from types import TracebackType
from typing import Annotated, Any, Protocol, Self

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

from steerzo_edge.errors import InputError, NotFoundError, SteerzoError
from steerzo_edge.training.pace import STEPS, WINDOW, phase_of, seconds_left

EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
PLAIN_SECONDS = 5.0
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")]


class Display(Protocol):
    """Prints the records of a run one by one."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, kind: str, record: Mapping[str, Any]) -> None:
        """Prints one record: its kind ("step", "eval", "tune", "watch"), and its fields as named in the API."""
        ...


def display(steps: int, *, as_json: bool, done: int = 0, first_pass: int = 0, searches: bool = False) -> Display:
    """Chooses the display for where the output goes.

    Args:
        steps: Length of the run.
        as_json: Print one JSON object per line, even in a terminal.
        done: Steps that the run had finished before.
        first_pass: Steps until every row has been seen once, if those are slower than later ones.
        searches: Whether a setting is found before the first step.
    """
    if as_json:
        return _Json()
    pace = _Pace(steps, done, first_pass, searches=searches)
    return _Bar(pace) if sys.stdout.isatty() else _Plain(pace)


@contextmanager
def plain_errors() -> Iterator[None]:
    """Prints errors inside the block as one line instead of a stack trace; exit code 2 for bad input, else 1.

    If the reader of a pipe has closed it (`| head`), the command ends without a message.
    """
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except SteerzoError as error:
        typer.secho(f"error: {error}", fg="red", err=True)
        for fault in getattr(error, "faults", ())[:20]:
            typer.echo(f"  {fault}", err=True)
        typer.echo(f"hint: {error.hint}", err=True)
        bad_input = isinstance(error, InputError | NotFoundError)
        raise typer.Exit(EXIT_BAD_INPUT if bad_input else EXIT_FAILED) from None
    except BrokenPipeError:
        # The reader of a pipe has read enough. Python would write the rest when it ends, and fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(EXIT_FAILED) from None
    except OSError as error:
        typer.secho(f"error: {error}", fg="red", err=True)
        raise typer.Exit(EXIT_FAILED) from None


def sentence(kind: str, record: Mapping[str, Any]) -> str:
    """A record as one line of text."""
    if kind == "eval":
        metrics = dict(record.get("metrics") or {})
        if record["accuracy"] is not None:  # the only metric of older records
            metrics = {"accuracy": record["accuracy"], **metrics}
        values = "".join(f"{name.replace('_', ' ')} {value:.3f}, " for name, value in metrics.items())
        best = " (best so far)" if record.get("best") else ""
        return f"after {record['step']} steps: {values}loss {record['loss']:.4f}{best}"
    if kind != "step":
        return str(record["message"])
    if record["skipped"]:
        return f"step {record['step']}: skipped, {record['skipped']}"
    slope = f"slope {record['slope']:+.3f}" if record["epsilon"] else f"gradient norm {record['slope']:.3f}"
    return f"step {record['step']}: loss {record['loss']:.4f}, {slope}, {record['forwards']} forwards"


def clock(seconds: float) -> str:
    """Seconds as 4:05 or 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class _Json:
    """Prints one JSON object per line."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def show(self, kind: str, record: Mapping[str, Any]) -> None:
        """See `Display.show`."""
        typer.echo(json.dumps({"event": kind, **record}))


class _Pace:
    """The recent rate of a run, and its phase, from the records that are shown."""

    def __init__(self, steps: int, done: int, first_pass: int, *, searches: bool) -> None:
        self._searches = searches
        self.steps = steps
        self.done = done
        self._first_pass = first_pass
        self._recent: deque[float] = deque(maxlen=WINDOW)
        self._seen: set[str] = set()

    def add(self, kind: str, record: Mapping[str, Any]) -> None:
        """Takes note of a record."""
        self._seen.add(kind)
        if kind == "step":
            self.done = record["step"] + 1
            self._recent.append(record["seconds"])

    @property
    def left(self) -> str:
        """The time left, as a clock shows it."""
        seconds = seconds_left(list(self._recent), self.steps - self.done)
        return "" if seconds is None else f"{clock(seconds)} left"

    @property
    def rate(self) -> float:
        """Steps a second."""
        return 1 / max(median(self._recent), 1e-9) if self._recent else 0.0

    @property
    def phase(self) -> str:
        """What comes next; the steps have no name."""
        searches = self._searches and "tune" not in self._seen
        found = phase_of(self.done, evaluates=not self._seen, searches=searches, first_pass=self._first_pass)
        return "" if found == STEPS else found


class _Plain(_Json):
    """Prints a line every few seconds, and one for every evaluation and the last step."""

    def __init__(self, pace: _Pace) -> None:
        self._pace = pace
        self._shown = 0.0

    def show(self, kind: str, record: Mapping[str, Any]) -> None:
        """See `Display.show`."""
        pace, now = self._pace, time.monotonic()
        pace.add(kind, record)
        if kind != "step" or record["skipped"] or pace.done == pace.steps:
            typer.echo(sentence(kind, record))
            if pace.done == 0 and pace.phase:
                typer.echo(pace.phase)
        elif now - self._shown >= PLAIN_SECONDS:
            self._shown = now
            note = f" ({pace.phase})" if pace.phase else ""
            typer.echo(f"{sentence(kind, record)}, {pace.rate:.1f} steps/s, {pace.left}{note}")


class _Bar:
    """Shows a progress bar with the latest loss; evaluations are printed above it."""

    def __init__(self, pace: _Pace) -> None:
        self._pace = pace
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("step {task.completed}/{task.total}"),
            BarColumn(),
            TextColumn("{task.fields[note]}"),
            console=Console(),
        )
        self._task = self._progress.add_task("steps", total=pace.steps, completed=pace.done, note=pace.phase)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show(self, kind: str, record: Mapping[str, Any]) -> None:
        """See `Display.show`."""
        pace = self._pace
        pace.add(kind, record)
        if kind != "step" or record["skipped"]:
            self._progress.print(sentence(kind, record))
            self._progress.update(self._task, note=pace.phase)
            return
        parts = (f"loss {record['loss']:.4f}", f"{record['forwards']} forwards", f"{pace.rate:.1f} steps/s")
        note = "  ".join(part for part in (*parts, pace.left, pace.phase) if part)
        self._progress.update(self._task, completed=pace.done, note=note)
