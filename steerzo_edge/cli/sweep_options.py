"""The options of `steerzo sweep`."""

from pathlib import Path
from typing import Annotated

import typer

from steerzo_edge.cli.arguments import BenchmarkTask, FieldMap, FormatName, OptionWords, Revision, Template
from steerzo_edge.cli.output import AsJson, plain_errors


def sweep(
    dataset: Annotated[Path, typer.Option(help="Training rows: JSON lines, JSON, CSV or Parquet.")],
    out: Annotated[Path, typer.Option(help="Directory of all runs; those that it holds are continued or kept.")],
    profile: Annotated[str, typer.Option(help="A profile's name or a .yaml file.")] = "cpu-demo",
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Values to try, e.g. --set method.pool=4,8; all are combined.")
    ] = None,
    grid: Annotated[
        Path | None,
        typer.Option(help="YAML file: a mapping of settings to lists of values, or a list of settings."),
    ] = None,
    most_steps: Annotated[int | None, typer.Option(min=1, help="Steps after which each run ends.")] = None,
    most_seconds: Annotated[
        float | None, typer.Option(min=0.001, help="Seconds of training after which each run ends.")
    ] = None,
    validation: Annotated[Path | None, typer.Option(help="Rows to evaluate on.")] = None,
    template: Template = None,
    options: OptionWords = None,
    task: BenchmarkTask = None,
    format: FormatName = None,
    map: FieldMap = None,
    base: Annotated[str | None, typer.Option(help="Hub id or path of the base, instead of the profile's.")] = None,
    base_revision: Revision = None,
    seed: Annotated[int, typer.Option(help="Seed of all runs.")] = 0,
    csv: Annotated[
        Path | None, typer.Option(help="File for the table as CSV; OUT/table.csv is always written.")
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Only check the settings, and say how long the runs would take.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Try several settings: one run for each, one table of all. The same command continues them."""
    from steerzo_edge.cli.sweep import RowsWish, SweepWish, sweep_command

    with plain_errors():
        sweep_command(
            rows=RowsWish(dataset, validation, template, options, task, format, map),
            wish=SweepWish(profile, base, base_revision, set_ or [], grid, most_steps, most_seconds),
            out=out,
            seed=seed,
            csv=csv,
            plan_only=plan,
            as_json=as_json,
        )
