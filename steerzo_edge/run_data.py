"""The rows of a run: which are learned from, which are set aside, and both as token ids."""

from dataclasses import dataclass
from hashlib import sha256

import torch
from transformers import PreTrainedTokenizerBase

from steerzo_edge.data.examples import Dataset
from steerzo_edge.data.kinds import tokenize
from steerzo_edge.data.statistics import remarks_of, rows_as_text
from steerzo_edge.data.tokenization import Tokenized
from steerzo_edge.errors import DatasetError
from steerzo_edge.seeds import derive_seed
from steerzo_edge.settings.profile import Profile


@dataclass(frozen=True, slots=True)
class Data:
    """Tokenized rows of a run.

    Args:
        train: Rows to learn from.
        validation: Rows to evaluate on, or None.
        as_text: In how many of the training and of the validation rows a control token is read as text.
    """

    train: Tokenized
    validation: Tokenized | None
    as_text: tuple[int, int] = (0, 0)


def fingerprint_as_read(rows: Dataset, as_text: int) -> str:
    """A fingerprint that differs from the rows' own where an earlier version read control tokens in their texts.

    Args:
        rows: The rows.
        as_text: In how many of them a control token is read as text.
    """
    found = rows.fingerprint
    return sha256(f"{found} control tokens as text".encode()).hexdigest() if as_text else found


def held_out(rows: int, profile: Profile) -> int:
    """How many of `rows` rows are set aside for validation where none were given."""
    return min(int(rows * profile.evaluate.holdout), profile.evaluate.examples)


def split(dataset: Dataset, profile: Profile, seed: int) -> tuple[Dataset, Dataset | None]:
    """Sets rows aside for validation where none were given; examples of one line of the file stay together.

    Args:
        dataset: All rows.
        profile: `evaluate.holdout` says which share, `evaluate.examples` how many at most.
        seed: Which rows.
    """
    count = held_out(len(dataset), profile)
    if count == 0:
        return dataset, None
    generator = torch.Generator().manual_seed(derive_seed("holdout", seed))
    lines: dict[int, list[int]] = {}
    for index, line in enumerate(dataset.lines):
        lines.setdefault(line, []).append(index)
    members = list(lines.values())
    held: set[int] = set()
    for chosen in torch.randperm(len(members), generator=generator).tolist():
        if len(held) >= count:
            break
        if len(held) + len(members[chosen]) <= len(dataset) // 2:  # at least half is trained on
            held.update(members[chosen])
    if not held:
        return dataset, None
    return dataset.pick([i for i in range(len(dataset)) if i not in held]), dataset.pick(sorted(held))


def tokenized(
    tokenizer: PreTrainedTokenizerBase,
    context_length: int,
    profile: Profile,
    train: Dataset,
    validation: Dataset | None,
    seed: int,
) -> Data:
    """Both sets of rows as token ids.

    Args:
        tokenizer: Of the base.
        context_length: Of the base; it caps `batch.max_tokens`.
        profile: The settings.
        train: Rows to learn from.
        validation: Rows to evaluate on; a random `evaluate.examples` of them are kept.
        seed: Of the run.

    Raises:
        DatasetError: If a row's target does not fit, or the formats differ.
        ProfileError: If the objective does not fit the rows.
        TaskError: If the task's options do not fit the labels.
    """
    max_tokens = min(profile.batch.max_tokens, context_length)
    labels = train.labels
    if validation is not None and validation.kind != train.kind:
        raise DatasetError(f"the validation rows are {validation.format}, the training rows {train.format}")
    if validation is not None and len(validation) > profile.evaluate.examples:
        generator = torch.Generator().manual_seed(derive_seed("validation", seed))
        order = torch.randperm(len(validation), generator=generator)[: profile.evaluate.examples]
        validation = validation.pick(sorted(order.tolist()))
    if validation is not None:
        labels = tuple(dict.fromkeys([*labels, *validation.labels]))
    train_rows, judged = (
        None
        if rows is None
        else profile.objective.prepare(tokenize(rows, tokenizer, max_tokens, labels), context_length)
        for rows in (train, validation)
    )
    assert train_rows is not None
    as_text = tuple(0 if rows is None else rows_as_text(rows, tokenizer) for rows in (train, validation))
    return Data(train_rows, judged, (as_text[0], as_text[1]))


def remarks_of_run(train: Dataset, validation: Dataset | None, data: Data) -> tuple[str, ...]:
    """What is to be told of the rows of a run before it begins: fields that are not used, and warnings.

    Args:
        train: Rows to learn from.
        validation: Rows to evaluate on; what was set aside from the training rows says nothing of its own.
        data: Both as token ids.
    """
    found = [f"training rows: {one}" for one in remarks_of(train, data.as_text[0], data.train)]
    if validation is not None and validation.remarks is not train.remarks:
        found += [f"validation rows: {one}" for one in remarks_of(validation, data.as_text[1], data.validation)]
    return tuple(found)


def rows_of_run(
    tokenizer: PreTrainedTokenizerBase,
    context_length: int,
    profile: Profile,
    train: Dataset,
    validation: Dataset | None,
    seed: int,
) -> tuple[Dataset, Dataset | None, Data]:
    """Splits and tokenizes the rows of a run. Slow for many rows; any thread with its own tokenizer may call it.

    Args:
        tokenizer: Of the base.
        context_length: Of the base.
        profile: The settings.
        train: Rows to learn from; some are set aside where `validation` is None.
        validation: Rows to evaluate on.
        seed: Of the run.

    Returns:
        Rows to learn from, rows to evaluate on, and both as token ids.

    Raises:
        InputError: If data and profile do not fit the base.
    """
    if validation is None:
        train, validation = split(train, profile, seed)
    return train, validation, tokenized(tokenizer, context_length, profile, train, validation, seed)
