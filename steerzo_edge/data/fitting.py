"""Rows cut to a number of tokens: on the left of the prompt, never in the target.

The end of a prompt (the question, the template's last words) decides the answer, so it is kept. Rows that are cut
are counted; a row whose target alone does not fit is an error.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from steerzo_edge.data.examples import Dataset, Example
from steerzo_edge.data.rows import shown
from steerzo_edge.data.tokenization import Target, Targets
from steerzo_edge.data.tokens import Tokens
from steerzo_edge.errors import DatasetError, Fault, InputError

MOST_FAULTS = 100


@dataclass(frozen=True, slots=True)
class Runs:
    """A row before it is cut.

    Args:
        runs: Its tokens in order, as runs; each run is learned (True) or only read (False).
        prompt: As in `Target`.
        references: As in `Target`.
        only_last: Whether several answers should be learned, but the last one only can be.
    """

    runs: Sequence[tuple[Tokens, bool]]
    prompt: str = ""
    references: tuple[str, ...] = ()
    only_last: bool = False


def fitted_targets(dataset: Dataset, runs_of: Callable[[Example], Runs], max_tokens: int) -> Targets:
    """Every row as one sequence of at most `max_tokens`.

    Args:
        dataset: The rows.
        runs_of: An example to its tokens.
        max_tokens: Longest sequence, prompt and target together.

    Raises:
        DatasetError: Naming every row whose target alone does not fit, or is empty, or that `runs_of` refuses with
            an InputError.
    """
    rows: list[Target] = []
    faults: list[Fault] = []
    refused: list[Fault] = []
    truncated = only_last = 0
    for line, example in zip(dataset.lines, dataset.examples, strict=True):
        try:
            row = runs_of(example)
        except InputError as error:
            refused.append(Fault(f"line {line}", "", _summary(example), str(error)))
            continue
        target = _fitted(row, max_tokens)
        if target is None:
            length = sum(len(tokens) for tokens, counted in row.runs if counted)
            found = f"{length} target tokens" if length else "no target tokens"
            faults.append(Fault(f"line {line}", "", found, f"at most {max_tokens - 1} fit after the prompt"))
            continue
        rows.append(target)
        truncated += len(target.tokens) < sum(len(tokens) for tokens, _ in row.runs)
        only_last += row.only_last
    if refused:
        raise DatasetError(
            f"{len(refused)} rows do not fit this base; {refused[0]}",
            faults=refused[:MOST_FAULTS],
            hint="Change these rows, or choose a base whose chat template takes them.",
        )
    if faults:
        raise too_long("target", faults, max_tokens)
    return Targets(tuple(rows), truncated, dataset.metric, dataset.max_new_tokens, only_last)


def _summary(example: Example) -> str:
    """The beginning of a row, to find it by."""
    return shown(json.dumps(example.row(), ensure_ascii=False))


def too_long(what: str, faults: Sequence[Fault], max_tokens: int) -> DatasetError:
    """The error for rows that do not fit.

    Args:
        what: The part that does not fit: "target", "choice".
        faults: One for each such row.
        max_tokens: The limit.
    """
    return DatasetError(
        f"{len(faults)} rows have a {what} that does not fit into {max_tokens} tokens; {faults[0]}",
        faults=faults[:MOST_FAULTS],
        hint=f"Shorten the {what}s or raise batch.max_tokens.",
    )


def _fitted(row: Runs, max_tokens: int) -> Target | None:
    """One sequence, cut on the left; None if a target would be cut."""
    tokens = tuple(token for run, _ in row.runs for token in run)
    counted = tuple(flag for run, flag in row.runs for _ in run)
    if not any(counted):
        return None
    excess = max(0, len(tokens) - max_tokens)
    # The first token of a sequence cannot be a target: no token precedes it.
    if any(counted[: excess + 1]):
        return None
    return Target(tokens[excess:], counted[excess:], row.prompt, row.references)
