"""Texts with the name of their class: the label's option word is learned, among those of all labels.

    {"text": "A film to remember.", "label": "positive"}

A `Task` says how they are put to the model: a prompt template, and an option word for each label.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from steerzo_edge.data.counting import token_facts
from steerzo_edge.data.examples import Dataset, Example, Labelled
from steerzo_edge.data.fields import Fields
from steerzo_edge.data.kinds.kind import Asked, Asking, RowKind
from steerzo_edge.data.rows import shown
from steerzo_edge.data.task import Task
from steerzo_edge.data.tokenization import Choice, Choices
from steerzo_edge.data.tokens import Tokens, answer_tokens, prompt_tokens
from steerzo_edge.errors import DatasetError, Fault

_MAYBE_PLAIN = "Give every row a label, or name the format if the texts themselves are to be learned: format=plain."


def _read(row: Fields) -> Labelled:
    return Labelled(row.text("text"), row.label())


def _tokenize(
    dataset: Dataset, tokenizer: PreTrainedTokenizerBase, max_tokens: int, labels: Sequence[str]
) -> Choices:
    assert dataset.task is not None
    answers = dataset.task.answers(labels)
    options = tuple(answer_tokens(tokenizer, answer) for answer in answers.values())
    room = max_tokens - max(len(option) for option in options)
    if room < 1:
        raise _too_long(dataset, dict(zip(answers, options, strict=True)), max_tokens)
    order = {label: index for index, label in enumerate(answers)}
    rows, truncated = [], 0
    for line, example in zip(dataset.lines, dataset.examples, strict=True):
        assert isinstance(example, Labelled)
        if example.label not in order:
            raise DatasetError(
                f"label {example.label!r} does not occur in the training rows",
                faults=[Fault(f"line {line}", "label", repr(example.label), f"one of {', '.join(order)}")],
            )
        prompt = prompt_tokens(tokenizer, dataset.task.prompt(example.text))
        truncated += len(prompt) > room
        rows.append(Choice(prompt[-room:], order[example.label]))
    return Choices(tuple(rows), options, tuple(answers), truncated, dataset.metric or "accuracy")


def _count(dataset: Dataset, tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> dict[str, Any]:
    """The labels and their rows; tokens only where there are two labels or more to choose between."""
    balance = Counter(example.label for example in dataset.examples if isinstance(example, Labelled))
    facts: dict[str, Any] = {"labels": list(dataset.labels), "balance": dict(balance)}
    if len(balance) < 2 and (dataset.task is None or dataset.task.options is None):
        return facts
    return facts | token_facts(_tokenize(dataset, tokenizer, max_tokens, dataset.labels), max_tokens)


def _warn(dataset: Dataset) -> list[str]:
    """Whether there is anything to choose between, and whether labels that look alike are meant to differ."""
    labels = dataset.labels
    if len(labels) > 1:
        return _alike(labels)
    count = (
        f"the only row has the label {labels[0]!r}"
        if len(dataset) == 1
        else f"all rows have the label {labels[0]!r}"
    )
    if dataset.task is not None and dataset.task.options is not None:
        return [f"{count}, so the model only learns to answer with it"]
    return [f"{count}, so there is nothing to choose between: add rows of other labels, or name the options"]


def _alike(labels: Sequence[str]) -> list[str]:
    """A sentence for labels that differ in nothing but the blanks inside them."""
    first: dict[str, str] = {}
    found = []
    for label in labels:
        other = first.setdefault("".join(label.split()), label)
        if other != label:
            found.append(
                f"the labels {shown(other)} and {shown(label)} differ only in blanks; they are two classes"
            )
    return found


def _too_long(dataset: Dataset, options: Mapping[str, Tokens], max_tokens: int) -> DatasetError:
    """The error for options that leave no room for a prompt, with the first row of each such label."""
    first = {
        example.label: line
        for line, example in reversed(list(zip(dataset.lines, dataset.examples, strict=True)))
        if isinstance(example, Labelled)
    }
    long = {label: len(option) for label, option in options.items() if len(option) >= max_tokens}
    faults = [
        Fault(
            f"line {first[label]}", "label", f"{shown(label)}, whose option has {length} tokens", "a shorter option"
        )
        for label, length in long.items()
        if label in first
    ]
    return DatasetError(
        f"an option of {max(long.values())} tokens leaves no room for a prompt in {max_tokens} tokens"
        + (f"; {faults[0]}" if faults else ""),
        faults=faults,
        hint="Use shorter option words or raise batch.max_tokens.",
    )


def _asked(example: Example, task: Task | None, options: Mapping[str, str]) -> Asked:
    assert isinstance(example, Labelled)
    assert task is not None
    return Asked(task.prompt(example.text), tuple(options.values()), options[example.label])


def _with_prompt(example: Example, prompt: str, task: Task | None) -> Labelled:
    """The text is all of the prompt but the template's last blanks, which `Task.bare` leaves in the template."""
    assert isinstance(example, Labelled)
    assert task is not None
    return Labelled(prompt.removesuffix(task.tail), example.label)


KIND = RowKind(
    name="classification",
    fields=("text", "label"),
    read=_read,
    tokenize=_tokenize,
    count=_count,
    asking=Asking(_asked, _with_prompt),
    takes_task=True,
    hints={"label": _MAYBE_PLAIN},
    warn=_warn,
)
