"""All errors of the project, as a tree.

SteerzoError
├── InputError                 the caller sent something that cannot be used
│   ├── ProfileError             a setting is unknown, missing or out of bounds
│   ├── DatasetError             rows that cannot be read, all of them at once
│   ├── TaskError                template or option words that do not fit the rows
│   ├── PromptTooLongError       prompt + answer exceed the model's context
│   ├── AdapterFileError         an adapter that does not belong to this base
│   ├── FormError                a form of answers that cannot be kept to
│   ├── NotFiniteError           the model gave numbers that are not finite
│   └── BaseModelError           a base that cannot be loaded
├── NotFoundError              no object has this name or id
├── ConflictError              the request does not fit the present state
├── BusyError                  the queue is full: try again later
├── CapacityError              memory does not suffice
├── StorageError               the disk is full, or fails
├── JournalError               a journal that cannot be read or does not match
└── DivergedError              no finite loss for too many steps

`code` is public: renaming one is a breaking change. `hint` says what to do next. The message carries the
offending value and its place. `server/errors.py` maps classes to HTTP status.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar


class SteerzoError(Exception):
    """Root of the tree; never raised itself."""

    code: ClassVar[str] = "internal-error"
    hint: str = "Please report this with the command and the log."

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        if hint is not None:
            self.hint = hint


@dataclass(frozen=True, slots=True)
class Fault:
    """One mistake in one place of an input.

    Args:
        where: A line ("line 12") or a path of keys ("method.epsilon").
        field: The field or key concerned, "" for the whole line.
        found: The value found there.
        fix: What to write instead.
    """

    where: str
    field: str
    found: str
    fix: str

    def __str__(self) -> str:
        place = f"{self.where}, field {self.field!r}" if self.field else self.where
        return f"{place}: found {self.found}; {self.fix}"

    def as_dict(self) -> dict[str, str]:
        """The fault as JSON-ready strings."""
        return asdict(self)


class InputError(SteerzoError):
    """The caller sent something that cannot be used; nothing was changed."""

    code = "invalid-input"
    hint = "Correct the input and send it again."

    def __init__(self, message: str, *, faults: Sequence[Fault] = (), hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.faults = tuple(faults)


class ProfileError(InputError):
    """A profile, an override or another group of settings is not valid."""

    code = "invalid-profile"
    hint = "`steerzo profiles show NAME` prints a profile that works."


class DatasetError(InputError):
    """Rows that cannot be read; `faults` lists them (the first 100)."""

    code = "invalid-dataset"
    hint = "Fix the lines listed in `errors`, then upload the file again."


class TaskError(InputError):
    """A prompt template or option words that do not fit the dataset."""

    code = "invalid-task"
    hint = 'A task looks like {"template": "{text}\\nThis is about", "options": {"GetWeather": "weather"}}.'


class PromptTooLongError(InputError):
    """Prompt and answer together exceed the model's context."""

    code = "prompt-too-long"
    hint = "Shorten the prompt or lower max_new_tokens."


class AdapterFileError(InputError):
    """An adapter directory that cannot be read or does not fit the base model."""

    code = "invalid-adapter"
    hint = "Use a PEFT LoRA directory (safetensors) that was trained on this base model."


class FormError(InputError):
    """A form of answers that cannot be kept to; the message says why."""

    code = "invalid-form"
    hint = "docs/serving.md says which JSON schemas, regular expressions and grammars are supported."


class NotFiniteError(InputError):
    """The model gave numbers that are not finite, so there is no likeliest token."""

    code = "not-finite"
    hint = "The adapter's weights are too large for this base: train it again with a lower learning rate."


class BaseModelError(InputError):
    """A base model that cannot be loaded."""

    code = "invalid-base"
    hint = "Give a hub id, a GGUF file, or a directory with config.json and safetensors; see docs/models.md."


class NotFoundError(SteerzoError):
    """No object has this name or id."""

    code = "not-found"
    hint = "List what exists with a GET on the collection."


class ConflictError(SteerzoError):
    """The request is valid, but does not fit the present state."""

    code = "conflict"
    hint = "Read the state with GET and send the request again when it has changed."


class BusyError(SteerzoError):
    """Too many requests or jobs are waiting."""

    code = "busy"
    hint = "Wait for some work to finish, then try again."


class CapacityError(SteerzoError):
    """The device's memory does not suffice, even for one probe at a time."""

    code = "out-of-memory"
    hint = "Lower batch.examples or batch.max_tokens, or choose a profile for a smaller card."


class StorageError(SteerzoError):
    """The disk is full or fails."""

    code = "storage-failed"
    hint = "Free some space, or check the disk; jobs that wait for it resume by themselves."


class JournalError(SteerzoError):
    """A journal that cannot be read, or that belongs to another run."""

    code = "damaged-journal"
    hint = "Start the run again in a new directory; the old files were left untouched."


class DivergedError(SteerzoError):
    """No candidate had a finite loss for many steps in a row."""

    code = "diverged"
    hint = "Lower the learning rate or epsilon."
