"""Tables and sentences about the results of `benchmarks.estimate_error`."""

from statistics import fmean, median
from typing import Any

from rich.table import Table

MIB = 1 << 20


def markdown(rows: list[dict[str, Any]]) -> str:
    """The table of docs/results/estimate_error.md, in Markdown."""
    lines = ["| run | estimated MiB | measured MiB | error |", "| --- | ---: | ---: | ---: |"]
    for row in rows:
        peaks = ", ".join(f"{peak / MIB:,.1f}" for peak in row["peaks"])
        lines.append(f"| {row['title']} | {row['estimated'] / MIB:,.1f} | {peaks} | {row['error']:+.1%} |")
    return "\n".join(lines)


def summary(rows: list[dict[str, Any]]) -> str:
    """Sums up the errors in sentences, for each grid."""
    sentences = []
    for name, words in (("fitted", "Of the grid"), ("others", "Of shapes that nothing was fitted to")):
        errors = [abs(row["error"]) for row in rows if row["grid"] == name]
        if errors:
            within = sum(error <= 0.15 for error in errors)
            middle, worst = f"{median(errors):.1%}", f"{max(errors):.1%}"
            sentences.append(
                f"{words}, {within} of {len(errors)} are within 15 %; median error {middle}, largest {worst}."
            )
    spread = [max(row["peaks"]) / min(row["peaks"]) - 1 for row in rows if len(row["peaks"]) > 1]
    if spread:
        sentences.append(
            f"{len(spread)} were measured more than once: the largest peak is above the smallest by a median of "
            f"{median(spread):.1%}, at most {max(spread):.1%}."
        )
    return " ".join(sentences)


def table(rows: list[dict[str, Any]]) -> Table:
    """The table that is printed."""
    found = Table("run")
    for title in ("weights", "estimated", "peak", "error"):
        found.add_column(title, justify="right")
    for row in rows:
        sizes = (row["parts"]["base weights"], row["estimated"], fmean(row["peaks"]))
        found.add_row(row["title"], *(f"{size / MIB:,.1f}" for size in sizes), f"{row['error']:+.1%}")
    return found
