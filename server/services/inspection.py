"""A job's rows, looked at before anything is done with them: read and tokenized as the run will.

Their errors come now. What else there is to say is small, and kept: an estimate and the job that follows it look at
the rows once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from server.schemas import JobBody
from steerzo_edge.data.examples import Dataset
from steerzo_edge.data.statistics import warning_of
from steerzo_edge.errors import InputError
from steerzo_edge.estimate import Work, work_of
from steerzo_edge.model.base import Base
from steerzo_edge.run_data import split, tokenized
from steerzo_edge.settings.profile import Profile


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was found.

    Args:
        warning: A sentence for people about rows that are both learned and judged by; None if there are none.
        rows: Training and validation rows, as sequences.
        truncated: How many of both are cut to fit.
        work: What a step works on.
    """

    warning: str | None
    rows: tuple[int, int]
    truncated: int
    work: Work


def spec_of(body: JobBody, profile: Profile, dataset: str | None, validation: str | None) -> dict[str, Any]:
    """What a job is to do, resolved; everything that an inspection depends on.

    Args:
        body: What is asked for.
        profile: Its settings.
        dataset: Id of the rows to learn from.
        validation: Id of the rows to be judged by.
    """
    return {
        "dataset": dataset,
        "validation": validation,
        "profile": profile.model_dump(mode="json"),
        "task": None if body.task is None else body.task.model_dump(mode="json"),
        "seed": body.seed,
    }


def inspect(
    base: Base, tokenizer: PreTrainedTokenizerBase, body: JobBody, profile: Profile, rows: Sequence[Dataset | None]
) -> Inspection:
    """Tokenizes rows, and sees whether settings and rows fit each other and the base.

    Args:
        base: Only its sizes are looked at.
        tokenizer: For this thread.
        body: What is asked for.
        profile: Its settings.
        rows: To learn from, and to be judged by or None.

    Raises:
        InputError: If they do not.
    """
    train, validation = rows
    if train is None:
        raise InputError("dataset is missing")
    if body.task is not None and train.format != "classification":
        raise InputError(f"a task needs text/label rows; the dataset is {train.format}")
    if validation is None:
        train, validation = split(train, profile, body.seed)
    profile.subset.chosen(base)
    data = tokenized(tokenizer, base.context_length, profile, train, validation, body.seed)
    both = [part for part in (data.train, data.validation) if part is not None]
    return Inspection(
        warning=warning_of(train, validation),
        rows=(len(data.train.rows), 0 if data.validation is None else len(data.validation.rows)),
        truncated=sum(part.truncated for part in both),
        work=work_of(profile, base.context_length, *both),
    )
