"""`steerzo train`: runs the engine of the server in the foreground."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import typer

from steerzo_edge.cli.options import base_settings, parsed_settings, parsed_task, read_file
from steerzo_edge.cli.output import Display, display, sentence
from steerzo_edge.cli.packed_cache import loaded_base, user_cache
from steerzo_edge.cli.remarks import FileOfRows, remarks_of
from steerzo_edge.data.statistics import warning_of
from steerzo_edge.run import Result, Run
from steerzo_edge.run_data import split
from steerzo_edge.run_tracking import sent, tracked
from steerzo_edge.settings.profile import load_profile, searches

log = logging.getLogger(__name__)


def train_command(
    *,
    dataset: Path,
    out: Path,
    profile: str,
    base: str | None,
    revision: str | None,
    validation: Path | None,
    template: str | None,
    options: Path | None,
    benchmark: str | None,
    format: str | None,
    map: str | None,
    seed: int,
    settings: Sequence[str],
    allow_control_tokens: bool,
    as_json: bool,
) -> None:
    """Reads all input first, so that bad input is reported before the base is loaded; then runs."""
    chosen = load_profile(profile, parsed_settings(settings) | base_settings(base, revision))
    for tracker in chosen.trackers:
        tracker.check_installed()
    task = parsed_task(template, options)
    train = read_file(dataset, task, benchmark, format, map)
    held_out = None if validation is None else read_file(validation, task, benchmark, format, map)
    loaded = loaded_base(chosen.model, user_cache(), allow_control_tokens=allow_control_tokens)
    run = Run(out, loaded, chosen, train, held_out, seed=seed)
    files = zip(
        (dataset, validation),
        (train, held_out),
        run.data.as_text,
        (run.data.train, run.data.validation),
        strict=True,
    )
    given = [FileOfRows(path, rows, as_text, data) for path, rows, as_text, data in files if path and rows]
    for line in remarks_of(given):
        typer.echo(json.dumps({"event": "log", "message": line}) if as_json else line)
    if not as_json:
        _introduce(run, len(train), out)
        warning = warning_of(*((train, held_out) if held_out else split(train, chosen, seed)))
        if warning is not None:
            typer.echo(warning)
    shown = display(
        chosen.steps,
        as_json=as_json,
        done=run.progress.step,
        first_pass=run.first_pass,
        searches=searches(run.profile),
    )
    _conclude(_finished(run, out.resolve().name, shown), as_json)


def _finished(run: Run, name: str, shown: Display) -> Result:
    """Runs to the end; waits for the trackers last."""
    with tracked(run, name) as tracking:
        with shown:
            for record in sent(run.records(), tracking):
                shown.show(record.kind, record.as_dict())
        result = run.finish()
        tracking.close("succeeded", result.after)
    return result


def _introduce(run: Run, rows: int, out: Path) -> None:
    profile = run.profile
    parts = [
        f"{rows} rows from the dataset, {run.size:,} trained parameters",
        f"method {profile.method.kind}, {profile.steps} steps of {profile.method.cost_in_words}",
        f"run directory {out}",
    ]
    if run.progress.step:
        parts.append(f"continuing at step {run.progress.step}")
    if run.data.train.truncated:
        parts.append(f"{run.data.train.truncated} rows were cut on the left to {profile.batch.max_tokens} tokens")
    try:
        parts.append(run.advice())
    except Exception as error:  # the run does not need the estimate
        log.warning("no advice on back-propagation: %s: %s", type(error).__name__, error)
    for part in parts:
        typer.echo(part)


def _conclude(result: Result, as_json: bool) -> None:
    before, after = result.before, result.after
    if as_json:
        metrics = None if after is None else after.as_dict()
        body = {"adapter": str(result.adapter), "sha256": result.sha256, "step": result.step}
        typer.echo(json.dumps({"result": {**body, "forwards": result.forwards, "metrics": metrics}}))
        return
    if before is not None and after is not None:
        typer.echo(f"before: {sentence('eval', before.as_dict())}")
        typer.echo(f"after:  {sentence('eval', after.as_dict())}")
    typer.echo(f"adapter {result.adapter} (sha256 {result.sha256[:16]}...), step {result.step}")
