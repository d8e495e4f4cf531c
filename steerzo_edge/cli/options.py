"""Reads what the command line names: overrides, tasks, files of rows, and directories of adapters."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from steerzo_edge.data.examples import Dataset
from steerzo_edge.data.hub_rows import hub_rows, is_hub_dataset
from steerzo_edge.data.mapping import parsed_map
from steerzo_edge.data.reading import read_dataset
from steerzo_edge.data.task import Task
from steerzo_edge.errors import InputError, ProfileError, TaskError


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


def read_file(
    path: Path, task: Task | None, benchmark: str | None, format: str | None = None, map: str | None = None
) -> Dataset:
    """Reads the rows of a file, or of a dataset on the hub.

    Args:
        path: The file, or a name as `steerzo_edge/data/hub_rows.py` has them.
        task: Prompt template and option words, for labelled rows.
        benchmark: The benchmark task that published the file.
        format: The format; None finds it by the fields.
        map: Other names for fields, as `parsed_map` takes them.

    Raises:
        InputError: If there is no such file, or its rows cannot be used.
        ConflictError: If the package for datasets of the hub is missing.
    """
    names = None if map is None else parsed_map(map)
    if is_hub_dataset(str(path)):
        data, name = hub_rows(str(path)), f"{path.name}.jsonl"
    elif path.is_file():
        data, name = path.read_bytes(), path.name
    else:
        raise InputError(f"there is no file {str(path)!r}", hint="Check the path.")
    return read_dataset(data, name=name, task=task, benchmark=benchmark, format=format, names=names)


def check_adapter_directory(path: Path) -> None:
    """Refuses a path that is no directory, before a base is loaded.

    Raises:
        InputError: If there is no such directory.
    """
    if not path.is_dir():
        raise InputError(f"there is no adapter directory {str(path)!r}", hint="Check the path.")
