"""Prints the records of a run: a progress bar in a terminal, plain lines in a pipe, JSON lines with `--json`."""

import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Protocol, Self

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from steerzo_edge.errors import InputError, NotFoundError, SteerzoError

EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
PLAIN_SECONDS = 5.0


class Display(Protocol):
    """Prints the records of a run one by one."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, kind: str, record: Mapping[str, Any]) -> None:
        """Prints one record: its kind ("step", "eval", "tune", "watch"), and its fields as named in the API."""
        ...


def display(steps: int, *, as_json: bool, done: int = 0) -> Display:
    """Chooses the display for where the output goes.

    Args:
        steps: Length of the run.
        as_json: Print one JSON object per line, even in a terminal.
        done: Steps that the run had finished before.
    """
    if as_json:
        return _Json()
    return _Bar(steps, done) if sys.stdout.isatty() else _Plain(steps, done)


@contextmanager
def plain_errors() -> Iterator[None]:
    """Prints errors inside the block as one line instead of a stack trace; exit code 2 for bad input, else 1."""
    try:
        yield
    except SteerzoError as error:
        typer.secho(f"error: {error}", fg="red", err=True)
        for fault in getattr(error, "faults", ())[:20]:
            typer.echo(f"  {fault}", err=True)
        typer.echo(f"hint: {error.hint}", err=True)
        bad_input = isinstance(error, InputError | NotFoundError)
        raise typer.Exit(EXIT_BAD_INPUT if bad_input else EXIT_FAILED) from None
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
    return (
        f"step {record['step']}: loss {record['loss']:.4f}, slope {record['slope']:+.3f}, "
        f"{record['forwards']} forwards"
    )


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


class _Plain(_Json):
    """Prints a line every few seconds, and one for every evaluation and the last step."""

    def __init__(self, steps: int, done: int) -> None:
        self._steps = steps
        self._first = done
        self._started = time.monotonic()
        self._shown = 0.0

    def show(self, kind: str, record: Mapping[str, Any]) -> None:
        """See `Display.show`."""
        now = time.monotonic()
        last = kind == "step" and record["step"] + 1 == self._steps
        if kind != "step" or record["skipped"] or last:
            typer.echo(sentence(kind, record))
        elif now - self._shown >= PLAIN_SECONDS:
            self._shown = now
            done = record["step"] + 1
            rate = (done - self._first) / max(now - self._started, 1e-9)
            left = clock((self._steps - done) / rate)
            typer.echo(f"{sentence(kind, record)}, {rate:.1f} steps/s, {left} left")


class _Bar:
    """Shows a progress bar with the latest loss; evaluations are printed above it."""

    def __init__(self, steps: int, done: int) -> None:
        self._console = Console()
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("step {task.completed}/{task.total}"),
            BarColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
            console=self._console,
        )
        self._task = self._progress.add_task("steps", total=steps, completed=done, note="")
        self._started = time.monotonic()
        self._done = 0

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show(self, kind: str, record: Mapping[str, Any]) -> None:
        """See `Display.show`."""
        if kind != "step" or record["skipped"]:
            self._progress.print(sentence(kind, record))
            return
        self._done += 1
        rate = self._done / max(time.monotonic() - self._started, 1e-9)
        note = f"loss {record['loss']:.4f}  {record['forwards']} forwards  {rate:.1f} steps/s"
        self._progress.update(self._task, completed=record["step"] + 1, note=note)
