"""What a row means, once its format is known: three kinds of example, and a dataset of one kind."""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

from steerzo_edge.data.task import Task

Format = Literal["completion", "chat", "classification"]


@dataclass(frozen=True, slots=True)
class Completion:
    """A prompt and what should follow it."""

    prompt: str
    completion: str


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


Example = Completion | Chat | Labelled


@dataclass(frozen=True, slots=True)
class Dataset:
    """Rows of one format.

    Args:
        format: What the rows are.
        examples: At least one.
        lines: Where each row began in its file, from 1.
        task: How labelled rows are put to the model; None for the other formats.
    """

    format: Format
    examples: tuple[Example, ...]
    lines: tuple[int, ...]
    task: Task | None = None

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes that occur, in order of first appearance; empty for other formats."""
        return tuple(dict.fromkeys(e.label for e in self.examples if isinstance(e, Labelled)))

    @property
    def fingerprint(self) -> str:
        """Hash of the rows and the task: what a journal must find again when a run goes on."""
        digest = hashlib.sha256(self.format.encode())
        for example in self.examples:
            digest.update(json.dumps(asdict(example), sort_keys=True).encode())
        if self.task is not None:
            digest.update(self.task.model_dump_json().encode())
        return digest.hexdigest()

    def pick(self, indices: list[int]) -> "Dataset":
        """The rows with these indices."""
        return Dataset(
            self.format,
            tuple(self.examples[i] for i in indices),
            tuple(self.lines[i] for i in indices),
            self.task,
        )

    def rows(self) -> list[dict[str, Any]]:
        """The examples as JSON-ready rows, in the fields they are read from."""
        return [asdict(example) for example in self.examples]
