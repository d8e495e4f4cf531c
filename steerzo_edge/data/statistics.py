"""Facts about a dataset before any training: lengths, labels, duplicates, and what of its rows is not used."""

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from steerzo_edge.data.control_tokens import are_read, control_tokens
from steerzo_edge.data.counting import token_facts
from steerzo_edge.data.examples import Dataset, Labelled
from steerzo_edge.data.kinds import KINDS, tokenize
from steerzo_edge.data.remarks import ignored_sentence
from steerzo_edge.data.tokenization import Targets, Tokenized


def statistics(dataset: Dataset, tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> dict[str, Any]:
    """Facts about a dataset, JSON-ready.

    Args:
        dataset: All rows.
        tokenizer: Of the base.
        max_tokens: Longest sequence, prompt and target together.

    Returns:
        "rows", "format", "container" (how the rows are written), "duplicates" (rows that are the same as an earlier
        one), "ignored" (fields that are not used, and in how many rows), "warnings" (sentences), the facts of
        `token_facts`, and those of the rows' kind: "labels" and "balance" (rows of each) for labelled rows,
        "sequences" for plain texts, which may become several. Tokens are not counted where rows of a single label
        leave nothing to choose between.

    Raises:
        DatasetError: Naming every row whose target does not fit.
    """
    data: Tokenized | None = None
    kind = KINDS[dataset.format]
    if kind.count is not None:
        counted = kind.count(dataset, tokenizer, max_tokens)
    else:
        data = tokenize(dataset, tokenizer, max_tokens)
        counted = token_facts(data, max_tokens)
    return {
        "rows": len(dataset),
        "format": dataset.format,
        "container": dataset.remarks.container,
        "duplicates": len(dataset) - len(set(dataset.examples)),
        "ignored": dict(dataset.remarks.ignored),
        "warnings": warnings_of(dataset, rows_as_text(dataset, tokenizer), data),
        **counted,
    }


def rows_as_text(dataset: Dataset, tokenizer: PreTrainedTokenizerBase) -> int:
    """In how many rows a control token is spelled, and read as text; 0 if the tokenizer reads control tokens."""
    if are_read(tokenizer):
        return 0
    occurs = control_tokens(tokenizer).occurs
    return sum(any(map(occurs, _texts(dataset, index))) for index in range(len(dataset)))


def warnings_of(dataset: Dataset, as_text: int = 0, data: Tokenized | None = None) -> list[str]:
    """Sentences about rows that are legal, but hardly what was meant.

    Args:
        dataset: The rows.
        as_text: In how many of them a control token is read as text.
        data: The same rows as token ids, if they are at hand.
    """
    found = [f"{what} in {_rows(rows)}" for what, rows in dataset.remarks.changed.items()]
    warn = KINDS[dataset.format].warn
    found += [] if warn is None else warn(dataset)
    if as_text:
        found.append(
            f"{_rows(as_text)} spell control tokens, such as those of a chat template; they are read as text "
            "(--allow-control-tokens reads them as control tokens)"
        )
    if isinstance(data, Targets) and data.only_last:
        found.append(
            f"of {_rows(data.only_last)} only the last answer is learned, because the base's chat template writes "
            "earlier turns differently once others follow"
        )
    return found


def remarks_of(dataset: Dataset, as_text: int = 0, data: Tokenized | None = None) -> list[str]:
    """What is to be told of a dataset before its rows are used: fields that are not used, then the warnings.

    Args:
        dataset: The rows.
        as_text: As in `warnings_of`.
        data: As in `warnings_of`.
    """
    ignored = dataset.remarks.ignored
    return [*([ignored_sentence(ignored)] if ignored else []), *warnings_of(dataset, as_text, data)]


def _texts(dataset: Dataset, index: int) -> list[str]:
    example = dataset.examples[index]
    if isinstance(example, Labelled) and dataset.task is not None:
        return [dataset.task.prompt(example.text)]
    return list(_strings(example.row()))


def _strings(value: Any) -> Sequence[str]:
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for one in inner for text in _strings(one)]


def _rows(count: int) -> str:
    return f"{count:,} {'row' if count == 1 else 'rows'}"


def overlap(train: Dataset, validation: Dataset) -> int:
    """How many validation rows are also among the training rows, word for word."""
    learned = set(train.examples)
    return sum(example in learned for example in validation.examples)


def warning_of(train: Dataset, validation: Dataset | None) -> str | None:
    """A sentence for people, if validation rows are also trained on; None if there are none."""
    count = 0 if validation is None else overlap(train, validation)
    if validation is None or not count:
        return None
    return (
        f"{count:,} of the {len(validation):,} validation rows are also among the training rows, word for word; "
        "their score says little about new rows"
    )
