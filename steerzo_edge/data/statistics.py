"""Facts about a dataset before any training: the lengths of its rows, its labels, its duplicates."""

from typing import Any

from transformers import PreTrainedTokenizerBase

from steerzo_edge.data.counting import token_facts
from steerzo_edge.data.examples import Dataset
from steerzo_edge.data.kinds import KINDS, tokenize


def statistics(dataset: Dataset, tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> dict[str, Any]:
    """Facts about a dataset, JSON-ready.

    Args:
        dataset: All rows.
        tokenizer: Of the base.
        max_tokens: Longest sequence, prompt and target together.

    Returns:
        "rows", "format", "duplicates" (rows that are the same as an earlier one), the facts of `token_facts`, and
        those of the rows' kind: "labels" and "balance" (rows of each) for labelled rows, "sequences" for plain
        texts, which may become several. Tokens are not counted where rows of a single label leave nothing to choose
        between.

    Raises:
        DatasetError: Naming every row whose target does not fit.
    """
    facts: dict[str, Any] = {
        "rows": len(dataset),
        "format": dataset.format,
        "duplicates": len(dataset) - len(set(dataset.examples)),
    }
    count = KINDS[dataset.format].count
    if count is not None:
        return facts | count(dataset, tokenizer, max_tokens)
    return facts | token_facts(tokenize(dataset, tokenizer, max_tokens), max_tokens)


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
