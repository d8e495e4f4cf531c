"""In-context learning: solved examples before each question, in the question's own form.

    prompt + right answer, blank line, prompt + right answer, blank line, prompt

What the floor of every claim is measured with, and what a user has without any training.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from steerzo_edge.data.examples import Completion, Dataset, Example, Labelled, MultipleChoice
from steerzo_edge.data.task import Task
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


@dataclass(frozen=True, slots=True)
class _Spoken:
    """An example as text: what is asked, what may follow, and the right one of it."""

    prompt: str
    follows: tuple[str, ...]
    right: str


def with_demonstrations(
    dataset: Dataset, pool: Dataset, shots: int, *, seed: int, length: Callable[[str], int], room: int
) -> InContext:
    """Puts solved examples before each row.

    Args:
        dataset: The rows that are asked.
        pool: Where demonstrations come from: rows of the same format. A row is never its own demonstration.
        shots: How many a row is given, unless fewer fit.
        seed: Which ones; every row draws its own.
        length: Tokens of a text.
        room: Most tokens of demonstrations, prompt and longest answer together.

    Raises:
        DatasetError: If the formats differ, or the rows have no question: conversations, plain texts.
        TaskError: If a label has no option.
    """
    if pool.kind != dataset.kind or dataset.kind in ("chat", "plain"):
        raise DatasetError(
            f"the demonstrations are {pool.format}, the rows {dataset.format}",
            hint="Both need the same format, and it must not be conversations or plain texts.",
        )
    options = _options(dataset, pool)
    solved = [_spoken(example, dataset.task, options) for example in pool.examples]
    examples: list[Example] = []
    used: list[int] = []
    for index, example in enumerate(dataset.examples):
        asked = _spoken(example, dataset.task, options)
        answer = max(dataset.max_new_tokens or 0, *(length(text) + 1 for text in asked.follows))
        chosen = _drawn(asked, solved, shots, derive_seed("demonstrations", seed, index))
        while chosen and length("".join(chosen) + asked.prompt) + answer > room:
            chosen.pop()
        examples.append(_behind("".join(chosen), asked, example, dataset.task))
        used.append(len(chosen))
    task = None if dataset.task is None else _bare(dataset.task, options)
    return InContext(replace(dataset, examples=tuple(examples), task=task), tuple(used))


def _options(dataset: Dataset, pool: Dataset) -> dict[str, str]:
    """What may follow a labelled row, with its joining blank, by label."""
    if dataset.task is None:
        return {}
    return dataset.task.answers(tuple(dict.fromkeys([*dataset.labels, *pool.labels])))


def _spoken(example: Example, task: Task | None, options: dict[str, str]) -> _Spoken:
    if isinstance(example, Labelled):
        assert task is not None
        return _Spoken(task.prompt(example.text), tuple(options.values()), options[example.label])
    if isinstance(example, MultipleChoice):
        return _Spoken(example.prompt, example.choices, example.choices[example.answers[0]])
    assert isinstance(example, Completion)
    return _Spoken(example.prompt, (example.completion,), example.completion)


def _drawn(asked: _Spoken, solved: Sequence[_Spoken], shots: int, seed: int) -> list[str]:
    order = torch.randperm(len(solved), generator=torch.Generator().manual_seed(seed)).tolist()
    others = (solved[index] for index in order if solved[index].prompt != asked.prompt)
    return [f"{other.prompt}{other.right}{END}" for other, _ in zip(others, range(shots), strict=False)]


def _behind(demonstrations: str, asked: _Spoken, example: Example, task: Task | None) -> Example:
    if isinstance(example, Labelled):
        assert task is not None
        text = asked.prompt.removesuffix(_tail(task))
        return Labelled(demonstrations + text, example.label)
    assert isinstance(example, Completion | MultipleChoice)
    return replace(example, prompt=demonstrations + example.prompt)


def _bare(task: Task, options: dict[str, str]) -> Task:
    """The task of rows whose text is the whole prompt already."""
    words = task.options or {label: label for label in options}
    return Task(template="{text}" + _tail(task), options=words)


def _tail(task: Task) -> str:
    """The blanks that the template ends with: they decide how an option is joined to the prompt."""
    return task.template[len(task.template.rstrip()) :]
