"""What a row means, once its format is known: five kinds of example, and a dataset of one kind."""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from steerzo_edge.data.task import Task

Kind = Literal["completion", "chat", "classification", "multiple-choice", "plain"]
Format = Literal[Kind, "alpaca", "sharegpt"]
Metric = Literal["accuracy", "f1", "exact_match", "score"]


@dataclass(frozen=True, slots=True)
class Completion:
    """A prompt and what should follow it.

    Args:
        prompt: What is read.
        completion: What is learned.
        references: Answers that count as right when one is generated; none means the completion alone.
    """

    prompt: str
    completion: str
    references: tuple[str, ...] = ()

    @property
    def accepted(self) -> tuple[str, ...]:
        """Answers that count as right, at least one."""
        return self.references or (self.completion.strip(),)


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation; the assistant's turns are the target."""

    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Labelled:
    """A text and the name of its class."""

    text: str
    label: str


@dataclass(frozen=True, slots=True)
class Plain:
    """A text that is learned from its beginning to its end."""

    text: str


@dataclass(frozen=True, slots=True)
class MultipleChoice:
    """A prompt and ways to go on, which are this row's own.

    Args:
        prompt: What all choices share.
        choices: At least two; each stands behind the prompt as it is, blanks included.
        answers: Indices of the right ones, at least one; the first is what is learned.
    """

    prompt: str
    choices: tuple[str, ...]
    answers: tuple[int, ...]


Example = Completion | Chat | Labelled | MultipleChoice | Plain


def characters(example: Example) -> int:
    """How long an example's texts are together."""
    match example:
        case Labelled() | Plain():
            return len(example.text)
        case MultipleChoice():
            return len(example.prompt) + sum(map(len, example.choices))
        case Completion():
            return len(example.prompt) + len(example.completion) + sum(map(len, example.references))
        case Chat():
            return sum(len(message.content) for message in example.messages)


@dataclass(frozen=True, slots=True)
class Dataset:
    """Rows of one format.

    Args:
        format: How the rows were written.
        examples: At least one.
        lines: Where each row began in its file, from 1.
        task: How labelled rows are put to the model; None for the other formats.
        metric: What they are judged by first, where that is not the format's own: accuracy for rows with options,
            the loss alone for the others.
        max_new_tokens: Longest answer that is generated, where the rows themselves say so.
    """

    format: Format
    examples: tuple[Example, ...]
    lines: tuple[int, ...]
    task: Task | None = None
    metric: Metric | None = None
    max_new_tokens: int | None = None

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def kind(self) -> Kind:
        """What the examples are, however their rows were written."""
        if self.format == "alpaca":
            return "completion"
        return "chat" if self.format == "sharegpt" else self.format

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes that occur, in order of first appearance; empty for other formats."""
        return tuple(dict.fromkeys(e.label for e in self.examples if isinstance(e, Labelled)))

    @property
    def fingerprint(self) -> str:
        """Hash of the rows and the task: what a journal must find again when a run goes on."""
        digest = hashlib.sha256(self.format.encode())
        for example in self.examples:
            digest.update(json.dumps(_row(example), sort_keys=True).encode())
        if self.task is not None:
            digest.update(self.task.model_dump_json().encode())
        if self.metric is not None:
            digest.update(f"{self.metric} {self.max_new_tokens}".encode())
        return digest.hexdigest()

    def pick(self, indices: list[int]) -> "Dataset":
        """The rows with these indices."""
        return replace(
            self,
            examples=tuple(self.examples[i] for i in indices),
            lines=tuple(self.lines[i] for i in indices),
        )

    def rows(self) -> list[dict[str, Any]]:
        """The examples as JSON-ready rows, in the fields that their kind is read from."""
        return [_row(example) for example in self.examples]


def _row(example: Example) -> dict[str, Any]:
    row = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(example).items()}
    if isinstance(example, Completion) and not example.references:
        del row["references"]
    if isinstance(example, MultipleChoice):
        answers = row.pop("answers")
        row["answer"] = answers[0] if len(answers) == 1 else answers
    return row
