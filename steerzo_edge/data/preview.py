"""Rows as the model will see them: text again, made from the tokens themselves, what is learned set apart."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from transformers import PreTrainedTokenizerBase

from steerzo_edge.data.examples import Dataset
from steerzo_edge.data.tokenization import Choices, Questions, Targets, Tokenized, Tokens, tokenize


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of tokens.

    Args:
        text: What they say, special tokens included.
        target: Whether they are learned.
    """

    text: str
    target: bool


@dataclass(frozen=True, slots=True)
class SeenRow:
    """A row.

    Args:
        line: Where it began in its file, from 1.
        segments: Its text, in order; of a plain text that became several sequences, the first.
        options: All there is to choose from, for rows with options.
        tokens: Of the segments together.
        targets: Those of them that are learned.
        truncated: Whether the prompt was cut on the left.
        sequences: How many the row became.
    """

    line: int
    segments: tuple[Segment, ...]
    options: tuple[str, ...]
    tokens: int
    targets: int
    truncated: bool
    sequences: int


def preview(
    dataset: Dataset, tokenizer: PreTrainedTokenizerBase, max_tokens: int, labels: Sequence[str] = ()
) -> list[SeenRow]:
    """Every row of a dataset, which should be a small one.

    Args:
        dataset: The rows to show.
        tokenizer: Of the base.
        max_tokens: Longest sequence, prompt and target together.
        labels: The classes to choose from, where these rows may not show all of them.

    Raises:
        DatasetError: If a target does not fit.
        TaskError: If the task's options do not fit the labels.
    """
    labels = labels or dataset.labels
    return [
        _seen(line, tokenize(dataset.pick([index]), tokenizer, max_tokens, labels), tokenizer)
        for index, line in enumerate(dataset.lines)
    ]


def _seen(line: int, data: Tokenized, tokenizer: PreTrainedTokenizerBase) -> SeenRow:
    tokens, counted, options = _of(data)
    return SeenRow(
        line,
        tuple(_segments(tokens, counted, tokenizer)),
        tuple(_text(tokenizer, option) for option in options),
        len(tokens),
        sum(counted),
        data.truncated > 0,
        len(data.rows),
    )


def _of(data: Tokenized) -> tuple[Tokens, Sequence[bool], Sequence[Tokens]]:
    """The first row's tokens with its right answer, which of them count, and its options."""
    if isinstance(data, Targets):
        return data.rows[0].tokens, data.rows[0].counted, ()
    prompt = data.rows[0].prompt
    if isinstance(data, Choices):
        options, answer = data.options, data.options[data.rows[0].answer]
    else:
        assert isinstance(data, Questions)
        options, answer = data.rows[0].choices, data.rows[0].choices[data.rows[0].answers[0]]
    return prompt + answer, (False,) * len(prompt) + (True,) * len(answer), options


def _segments(tokens: Tokens, counted: Sequence[bool], tokenizer: PreTrainedTokenizerBase) -> Iterator[Segment]:
    """Each run's text is what it adds to the text before: some tokenizers drop a blank where a text begins."""
    said, end = "", 0
    for target, run in groupby(counted):
        end += sum(1 for _ in run)
        text = _text(tokenizer, tokens[:end])
        yield Segment(text[len(said) :], target)
        said = text


def _text(tokenizer: PreTrainedTokenizerBase, tokens: Tokens) -> str:
    return str(tokenizer.decode(list(tokens), skip_special_tokens=False, clean_up_tokenization_spaces=False))
