"""`steerzo sweep`: runs that differ in some settings, one after the other, and one table of all."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from steerzo_edge.cli.options import base_settings, parsed_task, read_file
from steerzo_edge.cli.output import display
from steerzo_edge.cli.packed_cache import loaded_base, user_cache
from steerzo_edge.cli.remarks import FileOfRows, remarks_of
from steerzo_edge.records import Record
from steerzo_edge.run import Run
from steerzo_edge.settings.profile import load_profile, searches
from steerzo_edge.sweep.forecast import Forecast, forecasts
from steerzo_edge.sweep.grid import Changes, combinations, crossed, parsed_values, settings_of_file
from steerzo_edge.sweep.local import TABLE, LocalSweep
from steerzo_edge.sweep.outcomes import MIB, cells_of, csv_of, table_of
from steerzo_edge.sweep.trials import Trial, in_words, trials_of


@dataclass(frozen=True, slots=True)
class RowsWish:
    """Which files hold the rows, and how they are read.

    Args:
        dataset: Rows to learn from.
        validation: Rows to evaluate on, or None.
        template: Prompt for labelled rows.
        options: JSON file with the option word of each label.
        benchmark: The benchmark task that published the rows.
        format: Format of the rows.
        map: Other names for fields.
    """

    dataset: Path
    validation: Path | None
    template: str | None
    options: Path | None
    benchmark: str | None
    format: str | None
    map: str | None


@dataclass(frozen=True, slots=True)
class SweepWish:
    """What is to be tried.

    Args:
        profile: A profile's name or file.
        base: Hub id or path of the base, or None for the profile's.
        revision: Commit, tag or branch of the base.
        sets: Values by setting: ["method.pool=4,8"].
        grid: A YAML file with a grid or a list of settings.
        most_steps: Ceiling of each run's steps.
        most_seconds: Ceiling of each run's training time.
    """

    profile: str
    base: str | None
    revision: str | None
    sets: Sequence[str]
    grid: Path | None
    most_steps: int | None
    most_seconds: float | None

    def trials(self) -> list[Trial]:
        """The runs, each with its checked profile."""
        named = base_settings(self.base, self.revision)
        settings: list[Changes] = [{}] if self.grid is None else settings_of_file(self.grid)
        if self.sets:
            settings = crossed(settings, combinations(parsed_values(self.sets)))
        elif self.grid is None:
            settings = []
        return trials_of(
            lambda changes: load_profile(self.profile, {**named, **changes}),
            settings,
            most_steps=self.most_steps,
            most_seconds=self.most_seconds,
        )


def sweep_command(
    *, rows: RowsWish, wish: SweepWish, out: Path, seed: int, csv: Path | None, plan_only: bool, as_json: bool
) -> None:
    """Checks all runs, says what they need, runs those that have not ended, and prints the table."""
    trials = wish.trials()
    for tracker in (one for trial in trials for one in trial.profile.trackers):
        tracker.check_installed()
    task = parsed_task(rows.template, rows.options)
    train = read_file(rows.dataset, task, rows.benchmark, rows.format, rows.map)
    judged = None
    if rows.validation is not None:
        judged = read_file(rows.validation, task, rows.benchmark, rows.format, rows.map)
    base = loaded_base(trials[0].profile.model, user_cache())
    files = [
        (rows.dataset, train),
        *([] if rows.validation is None or judged is None else [(rows.validation, judged)]),
    ]
    for line in remarks_of(FileOfRows.read_by(base.tokenizer, path, read) for path, read in files):
        typer.echo(json.dumps({"event": "log", "message": line}) if as_json else line)
    _show_plan(trials, forecasts(base, trials, train, judged, seed), as_json)
    if plan_only:
        return
    sweep = LocalSweep(out, base, trials, train, judged, seed)
    table = table_of(sweep.known())
    for outcomes in sweep.run(_Shown(len(trials), as_json)):
        table = table_of(outcomes)
        if any(outcome.state == "waiting" for outcome in outcomes):
            _show_table(table, as_json)
    _show_table(table, as_json, last=True)
    if csv is not None:
        csv.write_text(csv_of(table), encoding="utf-8")
    elif not as_json:
        typer.echo(f"the table as CSV: {out / TABLE}")


class _Shown:
    """Shows each run as `steerzo train` does, under a line with its settings."""

    def __init__(self, runs: int, as_json: bool) -> None:
        self._runs = runs
        self._as_json = as_json

    def __call__(self, trial: Trial, run: Run, records: Iterator[Record]) -> None:
        heading = f"run {trial.number} of {self._runs}: {in_words(trial.changes)}"
        if self._as_json:
            typer.echo(json.dumps({"event": "run", "run": trial.key, "settings": trial.changes}))
        else:
            typer.echo(heading if not run.progress.step else f"{heading}, continued at step {run.progress.step}")
        shown = display(
            run.profile.steps,
            as_json=self._as_json,
            done=run.progress.step,
            first_pass=run.first_pass,
            searches=searches(run.profile),
        )
        with shown:
            for record in records:
                shown.show(record.kind, record.as_dict())


def _show_plan(trials: Sequence[Trial], expected: Sequence[Forecast], as_json: bool) -> None:
    seconds, most = sum(one.seconds for one in expected), max(one.bytes for one in expected)
    if as_json:
        runs = [
            {"run": trial.key, "settings": trial.changes, **asdict(one)}
            for trial, one in zip(trials, expected, strict=True)
        ]
        typer.echo(json.dumps({"event": "plan", "runs": runs, "seconds": round(seconds, 1), "bytes": most}))
        return
    typer.echo(f"{len(trials)} runs, about {seconds:,.0f} s in all, at most {most / MIB:,.0f} MiB of memory")
    for trial, one in zip(trials, expected, strict=True):
        if not one.fits:
            typer.echo(f"warning: run {trial.number} ({in_words(trial.changes)}) needs more memory than is free")


def _show_table(table: dict[str, Any], as_json: bool, *, last: bool = False) -> None:
    if as_json:
        typer.echo(json.dumps({"result" if last else "table": table}))
        return
    heads, rows = cells_of(table)
    shown = Table(box=None, pad_edge=False)
    for number, head in enumerate(heads):
        shown.add_column(head, justify="left" if number <= len(table["settings"]) else "right", no_wrap=True)
    for cells in rows:
        shown.add_row(*cells)
    Console(width=max(100, 16 * len(heads))).print(shown)
    for run in table["runs"]:
        if run["error"] is not None:
            typer.echo(f"{run['run']} failed: {run['error']}")
    if last and table["best"] is not None:
        best = table["best"]
        metric = f"{table['metric'].replace('_', ' ')} {best['value']:.4g}, " if best["value"] is not None else ""
        typer.echo(f"best: {metric}adapter {best['adapter']}")
