"""How labelled rows are put to the model: a prompt template, and a word or phrase for each label."""

from collections.abc import Iterable, Sequence
from typing import Annotated

from pydantic import Field, field_validator

from steerzo_edge.config import Config
from steerzo_edge.errors import TaskError

DEFAULT_TEMPLATE = "{text}\nLabel:"
# The length limit also makes pydantic reject half of a surrogate pair, which no tokenizer accepts.
Word = Annotated[str, Field(max_length=4000)]


class Task(Config):
    """Template and option words. Both are optional: by default the label's own text is the option."""

    template: str = Field(
        DEFAULT_TEMPLATE, max_length=4000, description="The prompt; {text} stands for the row's text."
    )
    options: dict[Word, Word] | None = Field(
        None, description="The answer for each label; None uses the labels themselves."
    )

    @field_validator("template")
    @classmethod
    def _holds_the_text(cls, template: str) -> str:
        if "{text}" not in template:
            raise ValueError("the template must contain {text}")
        return template

    @field_validator("options")
    @classmethod
    def _differ(cls, options: dict[str, str] | None) -> dict[str, str] | None:
        if options is None:
            return None
        if len(options) < 2:
            raise ValueError("at least two options are needed to choose from")
        if any(not answer.strip() for answer in options.values()):
            raise ValueError("an option must not be empty")
        if len(set(options.values())) < len(options):
            raise ValueError("two labels share the same option word")
        return options

    def prompt(self, text: str) -> str:
        """The template with the text in it; braces in the text stay as they are."""
        return self.template.replace("{text}", text)

    def answers(self, labels: Sequence[str]) -> dict[str, str]:
        """The option word of each label, with the blank that joins it to the prompt.

        Args:
            labels: The classes that occur in the data.

        Raises:
            TaskError: If a label has no option, or there are fewer than two classes.
        """
        chosen = self.options if self.options is not None else {label: label for label in sorted(labels)}
        missing = [label for label in labels if label not in chosen]
        if missing:
            raise TaskError(f"task.options names no option for label {missing[0]!r}, which occurs in the data")
        if len(chosen) < 2:
            raise TaskError(
                "the data has a single label, so there is nothing to choose between",
                hint="Give task.options with at least two labels, or rows of at least two classes.",
            )
        joint = "" if self.template[-1:].isspace() else " "
        return {label: joint + answer for label, answer in chosen.items()}

    @property
    def tail(self) -> str:
        """The blanks at the end of the template: they decide how an option is joined to the prompt."""
        return self.template[len(self.template.rstrip()) :]

    def bare(self, labels: Iterable[str]) -> "Task":
        """The task of rows whose text is already the whole prompt, up to the blanks at its end.

        Args:
            labels: The classes, used as option words where the task names none.
        """
        return Task(template="{text}" + self.tail, options=self.options or {label: label for label in labels})
