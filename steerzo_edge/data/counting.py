"""How long tokenized rows are: totals, percentiles and a histogram."""

from collections import Counter
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from steerzo_edge.data.tokenization import Tokenized

SHORTEST_BIN = 8


def token_facts(data: Tokenized, max_tokens: int) -> dict[str, Any]:
    """Lengths of rows as they are learned: the prompt, cut where it must be, and the right answer.

    Args:
        data: The tokenized rows.
        max_tokens: The longest sequence they were cut to.

    Returns:
        "tokens" ("total", "mean", "p50", "p95", "longest" of a row, "targets" in all), "lengths" (how many rows
        have up to so many tokens, in bins that double), "truncated" (rows that were cut) and "max_tokens".
    """
    lengths, targets = [], 0
    for row in map(data.learned, range(len(data.rows))):
        lengths.append(len(row.tokens))
        targets += sum(row.counted)
    return {
        "tokens": _spread(lengths) | {"targets": targets},
        "lengths": _histogram(lengths),
        "truncated": data.truncated,
        "max_tokens": max_tokens,
    }


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
    """The smallest length that this percentage of the rows does not exceed."""
    return ranked[-(-len(ranked) * percent // 100) - 1]


def _histogram(lengths: Sequence[int]) -> list[dict[str, int]]:
    """From the shortest bin that holds a row to the longest."""
    bins = Counter(max(SHORTEST_BIN, 1 << (length - 1).bit_length()) for length in lengths)
    upto, found = min(bins), []
    while upto <= max(bins):
        found.append({"upto": upto, "rows": bins[upto]})
        upto *= 2
    return found
