"""`steerzo train`: runs the engine of the server in the foreground."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer
import yaml

from steerzo_edge.cli.output import display, sentence
from steerzo_edge.data.examples import Dataset
from steerzo_edge.data.reading import read_dataset
from steerzo_edge.data.statistics import warning_of
from steerzo_edge.data.task import Task
from steerzo_edge.errors import InputError, ProfileError, TaskError
from steerzo_edge.model.load import load_base
from steerzo_edge.run import Result, Run
from steerzo_edge.run_data import split
from steerzo_edge.settings.profile import Profile, load_profile

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
    seed: int,
    settings: Sequence[str],
    as_json: bool,
) -> None:
    """Reads all input first, so that bad input is reported before the base is loaded; then runs."""
    chosen = load_profile(profile, parsed_settings(settings) | base_settings(base, revision))
    task = parsed_task(template, options)
    train = read_file(dataset, task, benchmark, format)
    held_out = None if validation is None else read_file(validation, task, benchmark, format)
    loaded = load_base(
        chosen.model.id,
        quantization=chosen.model.quantization,
        compute_dtype=chosen.model.dtype,
        revision=chosen.model.revision,
    )
    run = Run(out, loaded, chosen, train, held_out, seed=seed)
    if not as_json:
        _introduce(run, chosen, len(train), out)
        warning = warning_of(*((train, held_out) if held_out else split(train, chosen, seed)))
        if warning is not None:
            typer.echo(warning)
    searches = chosen.method.epsilon == "auto" or isinstance(chosen.rule.learning_rate, str)
    shown = display(
        chosen.steps, as_json=as_json, done=run.progress.step, first_pass=run.first_pass, searches=searches
    )
    with shown:
        try:
            for record in run.records():
                shown.show(record.kind, record.as_dict())
        finally:
            run.close()
    _conclude(run.finish(), as_json)


def base_settings(base: str | None, revision: str | None) -> dict[str, Any]:
    """The settings that --base and --base-revision change; another base does not keep the profile's revision.

    Args:
        base: Hub id or path; None keeps the profile's.
        revision: Commit, tag or branch; None keeps the profile's if the base is the profile's.
    """
    found: dict[str, Any] = {} if base is None else {"model.id": base, "model.revision": None}
    return found if revision is None else {**found, "model.revision": revision}


def parsed_settings(settings: Sequence[str]) -> dict[str, Any]:
    """Parses ["method.pool=4"] to {"method.pool": 4}; values are YAML.

    Raises:
        ProfileError: If one is not key=value.
    """
    parsed = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key.strip():
            raise ProfileError(f"--set {setting!r} is not key=value", hint="For example --set method.pool=4.")
        try:
            parsed[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise ProfileError(f"--set {setting!r}: the value is not YAML") from None
    return parsed


def parsed_task(template: str | None, options: Path | None) -> Task | None:
    """Prompt template and option words of the command line; None if both are missing.

    Raises:
        TaskError: If the template lacks {text}, or the options are not a JSON object.
    """
    if template is None and options is None:
        return None
    fields: dict[str, Any] = {} if template is None else {"template": template.replace("\\n", "\n")}
    if options is not None:
        try:
            fields["options"] = json.loads(options.read_text(encoding="utf-8"))
        except ValueError as error:
            raise TaskError(f"{options}: not a JSON object of labels and words: {error}") from None
    return Task.parse(fields, where="task", error=TaskError)


def read_file(path: Path, task: Task | None, benchmark: str | None, format: str | None = None) -> Dataset:
    """Reads the rows of a file.

    Args:
        path: The file.
        task: Prompt template and option words, for labelled rows.
        benchmark: The benchmark task that published the file.
        format: The format; None finds it by the fields.

    Raises:
        InputError: If there is no such file, or its rows cannot be used.
    """
    if not path.is_file():
        raise InputError(f"there is no file {str(path)!r}", hint="Check the path.")
    return read_dataset(path.read_bytes(), name=path.name, task=task, benchmark=benchmark, format=format)


def _introduce(run: Run, profile: Profile, rows: int, out: Path) -> None:
    parts = [
        f"{rows} rows from the dataset, {run.size:,} trained parameters",
        f"method {profile.method.kind}, {profile.steps} steps of {profile.method.cost} forwards",
        f"run directory {out}",
    ]
    if run.progress.step:
        parts.append(f"going on at step {run.progress.step}")
    if run.data.train.truncated:
        parts.append(f"{run.data.train.truncated} rows were cut on the left to {profile.batch.max_tokens} tokens")
    try:
        parts.append(run.advice())
    except Exception as error:  # the run can go on without an estimate
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
