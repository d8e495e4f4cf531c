"""What rows mean once they are read: examples, and a dataset of examples of one kind.

Several kinds of rows may give the same examples: alpaca rows become completions. A kind whose rows mean something
new brings an example class of its own, which implements `Example`.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, Protocol

from steerzo_edge.data.task import Task

Metric = Literal["accuracy", "f1", "exact_match", "score"]
Role = Literal["system", "user", "assistant", "tool"]


class Example(Protocol):
    """One example; hashable, and equal to every example with the same content."""

    kind: ClassVar[str]
    """Name of the kind of rows that the example's own fields are written in."""

    @property
    def characters(self) -> int:
        """Length of all its texts together."""
        ...

    def row(self) -> dict[str, Any]:
        """The example as a JSON-ready row, in the fields of its kind."""
        ...


@dataclass(frozen=True, slots=True)
class Completion:
    """A prompt and the text that should follow it.

    Args:
        prompt: The text before; it is read, not learned.
        completion: The text to learn.
        references: Generated answers that count as right; if empty, only the completion does.
    """

    kind: ClassVar[str] = "completion"
    prompt: str
    completion: str
    references: tuple[str, ...] = ()

    @property
    def accepted(self) -> tuple[str, ...]:
        """Generated answers that count as right, at least one."""
        return self.references or (self.completion.strip(),)

    @property
    def characters(self) -> int:
        """Length of prompt, completion and references together."""
        return len(self.prompt) + len(self.completion) + sum(map(len, self.references))

    def row(self) -> dict[str, Any]:
        """The fields, without `references` where there are none."""
        row: dict[str, Any] = {"prompt": self.prompt, "completion": self.completion}
        return row | ({"references": list(self.references)} if self.references else {})


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation.

    Args:
        role: Who speaks; a tool's turn is the result of a call.
        content: The text; empty only beside tool calls.
        learned: False for an answer that is read only; true for all other turns, of which only answers are learned.
        details: A JSON object of what the chat template gets beside role and content: `tool_calls`,
            `tool_call_id`, `name`; "" for none.
    """

    role: Role
    content: str
    learned: bool = True
    details: str = ""

    def turn(self) -> dict[str, Any]:
        """The turn as chat templates take it."""
        return {"role": self.role, "content": self.content, **(json.loads(self.details) if self.details else {})}


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation; the assistant's turns are learned, except those that are marked as not learned.

    Args:
        messages: The turns.
        tools: A JSON list of the tools that the assistant may call, as chat templates take it; "" for none.
    """

    kind: ClassVar[str] = "chat"
    messages: tuple[Message, ...]
    tools: str = ""

    @property
    def characters(self) -> int:
        """Length of all turns and tools together."""
        return len(self.tools) + sum(len(one.content) + len(one.details) for one in self.messages)

    def row(self) -> dict[str, Any]:
        """The turns as objects, with `weight` 0 where an assistant's turn is not learned."""
        turns = [
            one.turn() | ({"weight": 0} if one.role == "assistant" and not one.learned else {})
            for one in self.messages
        ]
        return {"messages": turns} | ({"tools": json.loads(self.tools)} if self.tools else {})


@dataclass(frozen=True, slots=True)
class Labelled:
    """A text and the name of its class."""

    kind: ClassVar[str] = "classification"
    text: str
    label: str

    @property
    def characters(self) -> int:
        """Length of the text."""
        return len(self.text)

    def row(self) -> dict[str, Any]:
        """Text and label."""
        return {"text": self.text, "label": self.label}


@dataclass(frozen=True, slots=True)
class Plain:
    """A text that is learned from its beginning to its end."""

    kind: ClassVar[str] = "plain"
    text: str

    @property
    def characters(self) -> int:
        """Length of the text."""
        return len(self.text)

    def row(self) -> dict[str, Any]:
        """The text."""
        return {"text": self.text}


@dataclass(frozen=True, slots=True)
class MultipleChoice:
    """A prompt and its own choices of continuation.

    Args:
        prompt: What all choices follow.
        choices: At least two; each follows the prompt exactly as written, blanks included.
        answers: Indices of the right choices, at least one; the first is learned.
    """

    kind: ClassVar[str] = "multiple-choice"
    prompt: str
    choices: tuple[str, ...]
    answers: tuple[int, ...]

    @property
    def characters(self) -> int:
        """Length of prompt and choices together."""
        return len(self.prompt) + sum(map(len, self.choices))

    def row(self) -> dict[str, Any]:
        """The fields; `answer` is a list only where several choices are right."""
        answer = self.answers[0] if len(self.answers) == 1 else list(self.answers)
        return {"prompt": self.prompt, "choices": list(self.choices), "answer": answer}


@dataclass(frozen=True, slots=True)
class Remarks:
    """What a user should know of how a file was read; no part of what is learned.

    Args:
        container: How the rows were written: "JSON lines", "CSV separated by tabs, packed with gzip".
        ignored: Fields that hold something and are not used, and in how many rows; `messages[].id` is a turn's.
        changed: What was changed in the rows, as phrases, and in how many rows.
    """

    container: str = ""
    ignored: Mapping[str, int] = field(default_factory=dict)
    changed: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Dataset:
    """Rows of one format.

    Args:
        format: Name of the kind of rows, as they were written.
        examples: At least one.
        lines: The line of the file that each row began in, from 1.
        task: Template and option words of labelled rows; None for other kinds.
        metric: The main metric, where it is not the default: accuracy for rows with options, the loss alone for
            others.
        max_new_tokens: Length limit of a generated answer, where a benchmark task sets one.
        remarks: What the file was read as and what of it was not used.
    """

    format: str
    examples: tuple[Example, ...]
    lines: tuple[int, ...]
    task: Task | None = None
    metric: Metric | None = None
    max_new_tokens: int | None = None
    remarks: Remarks = field(default_factory=Remarks, compare=False)

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def kind(self) -> str:
        """The kind of the examples; it differs from the format for rows that are converted, such as alpaca's."""
        return self.examples[0].kind

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes that occur, in order of first appearance; empty for rows without labels."""
        return tuple(dict.fromkeys(e.label for e in self.examples if isinstance(e, Labelled)))

    @property
    def fingerprint(self) -> str:
        """Hash of the rows and the task; a run can only be resumed with rows of the same fingerprint."""
        digest = hashlib.sha256(self.format.encode())
        for example in self.examples:
            digest.update(json.dumps(example.row(), sort_keys=True).encode())
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
        """The examples as JSON-ready rows, in the fields of their kind."""
        return [example.row() for example in self.examples]
