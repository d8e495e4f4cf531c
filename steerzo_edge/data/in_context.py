"""In-context learning: solved examples before each question, in the question's own form.

    prompt + right answer, blank line, prompt + right answer, blank line, prompt

This is the baseline that a trained adapter must beat, and what a user can have without any training.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from steerzo_edge.data.examples import Dataset, Example
from steerzo_edge.data.kinds import KINDS
from steerzo_edge.data.kinds.kind import Asked
from steerzo_edge.errors import DatasetError
from steerzo_edge.seeds import derive_seed

END = "\n\n"


@dataclass(frozen=True, slots=True)
class InContext:
    """A dataset whose prompts begin with demonstrations.

    Args:
        dataset: The rows.
        used: How many demonstrations each row has.
    """

    dataset: Dataset
    used: tuple[int, ...]


def with_demonstrations(
    dataset: Dataset, pool: Dataset, shots: int, *, seed: int, length: Callable[[str], int], room: int
) -> InContext:
    """Puts solved examples before each row.

    Args:
        dataset: The rows to ask.
        pool: The rows to take demonstrations from, of the same kind. A row is never its own demonstration.
        shots: How many each row gets, unless fewer fit.
        seed: Decides which; every row draws its own.
        length: Counts the tokens of a text.
        room: Most tokens of demonstrations, prompt and longest answer together.

    Raises:
        DatasetError: If the kinds differ, or the rows ask no question: conversations, plain texts.
        TaskError: If a label has no option.
    """
    asking = KINDS[dataset.format].asking
    if pool.kind != dataset.kind or asking is None:
        raise DatasetError(
            f"the demonstrations are {pool.format}, the rows {dataset.format}",
            hint="Both need the same format, and it must not be conversations or plain texts.",
        )
    options = _options(dataset, pool)
    solved = [asking.asked(example, dataset.task, options) for example in pool.examples]
    examples: list[Example] = []
    used: list[int] = []
    for index, example in enumerate(dataset.examples):
        asked = asking.asked(example, dataset.task, options)
        answer = max(dataset.max_new_tokens or 0, *(length(text) + 1 for text in asked.continuations))
        chosen = _drawn(asked, solved, shots, derive_seed("demonstrations", seed, index))
        while chosen and length("".join(chosen) + asked.prompt) + answer > room:
            chosen.pop()
        examples.append(asking.with_prompt(example, "".join(chosen) + asked.prompt, dataset.task))
        used.append(len(chosen))
    task = None if dataset.task is None else dataset.task.bare(options)
    return InContext(replace(dataset, examples=tuple(examples), task=task), tuple(used))


def _options(dataset: Dataset, pool: Dataset) -> dict[str, str]:
    """What may follow the prompt of a labelled row, by label, with the blank that joins it to the prompt."""
    if dataset.task is None:
        return {}
    return dataset.task.answers(tuple(dict.fromkeys([*dataset.labels, *pool.labels])))


def _drawn(asked: Asked, solved: Sequence[Asked], shots: int, seed: int) -> list[str]:
    order = torch.randperm(len(solved), generator=torch.Generator().manual_seed(seed)).tolist()
    others = (solved[index] for index in order if solved[index].prompt != asked.prompt)
    return [f"{other.prompt}{other.right}{END}" for other, _ in zip(others, range(shots), strict=False)]
