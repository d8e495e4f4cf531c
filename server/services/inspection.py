"""Reads and tokenizes a job's rows as the run will, so that errors are reported before the job is queued.

The result is small and is cached, so that an estimate and the job that follows it tokenize the rows once.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from server.services.request_bodies import JobBody
from steerzo_edge.data.examples import Dataset
from steerzo_edge.data.statistics import remarks_of, warning_of
from steerzo_edge.errors import InputError
from steerzo_edge.estimate import Work, work_of
from steerzo_edge.model.base import Base
from steerzo_edge.model.layers import layer_index
from steerzo_edge.run_data import Data, split, tokenized
from steerzo_edge.settings.profile import Profile


@dataclass(frozen=True, slots=True)
class Inspection:
    """The result of an inspection.

    Args:
        warnings: Sentences about the rows: fields that are not used, rows that are in both training and validation.
        rows: Numbers of training and validation sequences.
        truncated: How many of both are cut to fit.
        work: The amount of data that a step processes.
    """

    warnings: tuple[str, ...]
    rows: tuple[int, int]
    truncated: int
    work: Work


def spec_of(body: JobBody, profile: Profile, dataset: str | None, validation: str | None) -> dict[str, Any]:
    """The resolved request for a job.

    Args:
        body: The request.
        profile: The job's profile.
        dataset: Id of the training rows.
        validation: Id of the validation rows.
    """
    return {
        "dataset": dataset,
        "validation": validation,
        "profile": profile.model_dump(mode="json"),
        "task": None if body.task is None else body.task.model_dump(mode="json"),
        "seed": body.seed,
    }


def inspection_key(spec: Mapping[str, Any]) -> str:
    """Everything that an inspection depends on; jobs of a sweep that read their rows alike have it in common.

    Args:
        spec: Of `spec_of`.
    """
    read = {name: spec["profile"][name] for name in ("batch", "evaluate", "objective")}
    return json.dumps(read | {name: spec[name] for name in ("dataset", "validation", "task", "seed")})


def check_layers(base: Base, profile: Profile) -> None:
    """Refuses a profile that trains or needs layers that the base does not have.

    Raises:
        InputError: If it does.
    """
    layers = {layer_index(name) for name in profile.subset.chosen(base)}
    profile.method.exact_layers_of(len(layers))


def inspect(
    base: Base, tokenizer: PreTrainedTokenizerBase, body: JobBody, profile: Profile, rows: Sequence[Dataset | None]
) -> Inspection:
    """Tokenizes rows, and checks that they fit the settings; `inspection_key` names those that are read here.

    Args:
        base: The loaded base; only its sizes are read.
        tokenizer: A tokenizer of this thread's own.
        body: The request.
        profile: The job's profile, of which only batch, evaluate and objective are read.
        rows: Training rows, and validation rows or None.

    Raises:
        InputError: If settings or rows do not fit.
    """
    train, validation = rows
    if train is None:
        raise InputError("dataset is missing")
    if body.task is not None and train.task is None:
        raise InputError(f"a task needs text/label rows; the dataset is {train.format}")
    if validation is None:
        train, validation = split(train, profile, body.seed)
    data = tokenized(tokenizer, base.context_length, profile, train, validation, body.seed)
    overlap = warning_of(train, validation)
    both = [part for part in (data.train, data.validation) if part is not None]
    return Inspection(
        warnings=_warnings(rows, data) + (() if overlap is None else (overlap,)),
        rows=(len(data.train.rows), 0 if data.validation is None else len(data.validation.rows)),
        truncated=sum(part.truncated for part in both),
        work=work_of(profile, base.context_length, *both),
    )


def _warnings(rows: Sequence[Dataset | None], data: Data) -> tuple[str, ...]:
    """Sentences on fields of the rows that are not used, and on rows that are probably mistakes."""
    found: list[str] = []
    parts = zip(("dataset", "validation"), rows, data.as_text, (data.train, data.validation), strict=True)
    for name, file, as_text, learned in parts:
        if file is not None:
            found += [f"{name}: {sentence}" for sentence in remarks_of(file, as_text, learned)]
    return tuple(found)
