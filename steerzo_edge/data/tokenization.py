"""The three forms that tokenized rows take; a kind of rows normally reuses one of them.

Targets      sequences with target tokens         completions, conversations, plain texts
Choices      prompts with the same options        labelled rows
Questions    prompts with choices of their own    multiple choice
"""

from dataclasses import dataclass

from steerzo_edge.data.examples import Metric
from steerzo_edge.data.tokens import Tokens


@dataclass(frozen=True, slots=True)
class Target:
    """A sequence, and which of its tokens count in the loss.

    Args:
        tokens: The whole sequence.
        counted: For each token, whether it is a target; never the first one.
        prompt: The prompt's text, for completions.
        references: Generated answers that count as right; empty for conversations and plain texts.
    """

    tokens: Tokens
    counted: tuple[bool, ...]
    prompt: str = ""
    references: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Choice:
    """A prompt, and the index of the right one of the dataset's options."""

    prompt: Tokens
    answer: int


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt, its own choices, and the indices of the right ones; the first of these is learned."""

    prompt: Tokens
    choices: tuple[Tokens, ...]
    answers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Targets:
    """Rows that are sequences.

    Args:
        rows: One sequence each; a long plain text is several.
        truncated: How many were cut to fit.
        metric: The main metric of generated answers; None where the loss alone counts.
        max_new_tokens: Length limit of a generated answer, where a benchmark task sets one.
        only_last: Conversations of which the last answer only is learned, because the base's chat template writes
            earlier turns differently once others follow.
    """

    rows: tuple[Target, ...]
    truncated: int = 0
    metric: Metric | None = None
    max_new_tokens: int | None = None
    only_last: int = 0

    def learned(self, index: int) -> Target:
        """A row as the sequence that is learned."""
        return self.rows[index]

    def options_of(self, index: int) -> tuple[Tokens, ...]:
        """What a row chooses from: nothing."""
        return ()


@dataclass(frozen=True, slots=True)
class Choices:
    """Rows that choose among the same options.

    Args:
        rows: One prompt each.
        options: The tokens of each option, shared by all rows.
        labels: The label that each option stands for.
        truncated: How many prompts were cut to fit.
        metric: The main metric; f1 is that of the second of two options.
    """

    rows: tuple[Choice, ...]
    options: tuple[Tokens, ...]
    labels: tuple[str, ...]
    truncated: int = 0
    metric: Metric = "accuracy"

    def learned(self, index: int) -> Target:
        """A row with its right option, as the sequence that is learned."""
        return _answered(self.rows[index].prompt, self.options[self.rows[index].answer])

    def options_of(self, index: int) -> tuple[Tokens, ...]:
        """What a row chooses from."""
        return self.options


@dataclass(frozen=True, slots=True)
class Questions:
    """Rows that choose among choices of their own.

    Args:
        rows: One prompt each, with its choices.
        truncated: How many prompts were cut to fit.
        metric: The main metric.
    """

    rows: tuple[Question, ...]
    truncated: int = 0
    metric: Metric = "accuracy"

    def learned(self, index: int) -> Target:
        """A row with its first right choice, as the sequence that is learned."""
        row = self.rows[index]
        return _answered(row.prompt, row.choices[row.answers[0]])

    def options_of(self, index: int) -> tuple[Tokens, ...]:
        """What a row chooses from."""
        return self.rows[index].choices


Tokenized = Targets | Choices | Questions


def _answered(prompt: Tokens, answer: Tokens) -> Target:
    return Target(prompt + answer, (False,) * len(prompt) + (True,) * len(answer))
