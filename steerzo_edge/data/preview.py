"""Shows rows as the model will see them: text made from the tokens themselves, with what is learned set apart."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from transformers import PreTrainedTokenizerBase

from steerzo_edge.data.examples import Dataset
from steerzo_edge.data.kinds import tokenize
from steerzo_edge.data.tokenization import Tokenized
from steerzo_edge.data.tokens import Tokens


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of tokens.

    Args:
        text: The tokens as text, special tokens included.
        target: Whether they are learned.
    """

    text: str
    target: bool


@dataclass(frozen=True, slots=True)
class SeenRow:
    """A row.

    Args:
        line: The line of the file it began in, from 1.
        segments: Its text, in order; of a plain text that became several sequences, the first sequence.
        options: All texts to choose from, for rows with options.
        tokens: Number of tokens of all segments.
        targets: How many of these are learned.
        truncated: Whether the prompt was cut on the left.
        sequences: How many sequences the row became.
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
    row = data.learned(0)
    return SeenRow(
        line,
        tuple(_segments(row.tokens, row.counted, tokenizer)),
        tuple(_text(tokenizer, option) for option in data.options_of(0)),
        len(row.tokens),
        sum(row.counted),
        data.truncated > 0,
        len(data.rows),
    )


def _segments(tokens: Tokens, counted: Sequence[bool], tokenizer: PreTrainedTokenizerBase) -> Iterator[Segment]:
    """Each segment's text is what it adds to the text before: some tokenizers drop a blank where a text begins."""
    shown, end = "", 0
    for target, run in groupby(counted):
        end += sum(1 for _ in run)
        text = _text(tokenizer, tokens[:end])
        yield Segment(text[len(shown) :], target)
        shown = text


def _text(tokenizer: PreTrainedTokenizerBase, tokens: Tokens) -> str:
    return str(tokenizer.decode(list(tokens), skip_special_tokens=False, clean_up_tokenization_spaces=False))
