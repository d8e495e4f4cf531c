"""What is said of a dataset before anything is learned from it: how long its rows are, and how many are the same.

Lengths are those of rows as they are learned: the prompt, cut where it must be, and the right answer.
"""

from collections import Counter
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from transformers import PreTrainedTokenizerBase

from steerzo_edge.data.examples import Dataset, Labelled
from steerzo_edge.data.tokenization import Choices, Targets, Tokenized, tokenize

SHORTEST_BIN = 8


def statistics(dataset: Dataset, tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> dict[str, Any]:
    """Facts of a dataset, JSON-ready.

    Args:
        dataset: All rows.
        tokenizer: Of the base.
        max_tokens: Longest sequence, prompt and target together.

    Returns:
        "rows", "format", "duplicates" (rows that are the same as an earlier one); "labels" and "balance" (rows of
        each) for labelled rows; "tokens" ("total", "mean", "p50", "p95", "longest" of a row, "targets" in all),
        "lengths" (how many rows have up to so many tokens, in bins that double), "truncated" (rows that are cut to
        "max_tokens"), and "sequences" for plain texts, which may become several. Nothing is counted in tokens where
        rows of a single label leave nothing to choose between.

    Raises:
        DatasetError: Naming every row whose target does not fit.
    """
    facts: dict[str, Any] = {
        "rows": len(dataset),
        "format": dataset.format,
        "duplicates": len(dataset) - len(set(dataset.examples)),
    }
    if dataset.kind == "classification":
        balance = Counter(example.label for example in dataset.examples if isinstance(example, Labelled))
        facts |= {"labels": list(dataset.labels), "balance": dict(balance)}
        if len(balance) < 2 and (dataset.task is None or dataset.task.options is None):
            return facts
    data = tokenize(dataset, tokenizer, max_tokens)
    lengths, targets = _lengths(data)
    facts |= {
        "tokens": _spread(lengths) | {"targets": targets},
        "lengths": _histogram(lengths),
        "truncated": data.truncated,
        "max_tokens": max_tokens,
    }
    return facts | ({"sequences": len(data.rows)} if dataset.kind == "plain" else {})


def overlap(train: Dataset, validation: Dataset) -> int:
    """How many validation rows are also among the training rows, word for word."""
    learned = set(train.examples)
    return sum(example in learned for example in validation.examples)


def warning_of(train: Dataset, validation: Dataset | None) -> str | None:
    """A sentence for people, if rows that are judged by are learned as well; None if there are none."""
    count = 0 if validation is None else overlap(train, validation)
    if validation is None or not count:
        return None
    return (
        f"{count:,} of the {len(validation):,} validation rows are also among the training rows, word for word; "
        "what they are judged by says little about new rows"
    )


def _lengths(data: Tokenized) -> tuple[list[int], int]:
    """Tokens of each row, and target tokens of all."""
    if isinstance(data, Targets):
        return [len(row.tokens) for row in data.rows], sum(sum(row.counted) for row in data.rows)
    if isinstance(data, Choices):
        pairs = [(len(row.prompt), len(data.options[row.answer])) for row in data.rows]
    else:
        pairs = [(len(row.prompt), len(row.choices[row.answers[0]])) for row in data.rows]
    return [sum(pair) for pair in pairs], sum(answer for _, answer in pairs)


def _spread(lengths: Sequence[int]) -> dict[str, Any]:
    ranked = sorted(lengths)
    return {
        "total": sum(ranked),
        "mean": round(fmean(ranked), 1),
        "p50": _percentile(ranked, 50),
        "p95": _percentile(ranked, 95),
        "longest": ranked[-1],
    }


def _percentile(ranked: Sequence[int], percent: int) -> int:
    """The smallest length that so many percent of the rows do not exceed."""
    return ranked[-(-len(ranked) * percent // 100) - 1]


def _histogram(lengths: Sequence[int]) -> list[dict[str, int]]:
    """From the shortest bin that holds a row to the longest."""
    bins = Counter(max(SHORTEST_BIN, 1 << (length - 1).bit_length()) for length in lengths)
    upto, found = min(bins), []
    while upto <= max(bins):
        found.append({"upto": upto, "rows": bins[upto]})
        upto *= 2
    return found
