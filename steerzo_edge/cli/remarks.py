"""Sentences on the rows of files: fields that are not used, and rows that are probably mistakes.

Every command that reads rows prints these, each behind the name of its file, before it begins its work.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import typer
from transformers import PreTrainedTokenizerBase

from steerzo_edge.data.examples import Dataset
from steerzo_edge.data.remarks import ignored_sentence
from steerzo_edge.data.statistics import rows_as_text, warnings_of
from steerzo_edge.data.tokenization import Tokenized


@dataclass(frozen=True, slots=True)
class FileOfRows:
    """A file that was read.

    Args:
        path: The file.
        rows: Its rows.
        as_text: In how many of them a control token is read as text.
        data: The same rows as token ids, if they are at hand.
    """

    path: Path
    rows: Dataset
    as_text: int = 0
    data: Tokenized | None = None

    @classmethod
    def read_by(cls, tokenizer: PreTrainedTokenizerBase, path: Path, rows: Dataset) -> "FileOfRows":
        """A file whose control tokens were looked for with a base's tokenizer."""
        return cls(path, rows, rows_as_text(rows, tokenizer))

    def remarks(self) -> list[str]:
        """Sentences such as "rows.jsonl: ignored: note (31 rows)", warnings last; none if all is well."""
        ignored = self.rows.remarks.ignored
        found = [ignored_sentence(ignored)] if ignored else []
        found += [f"warning: {warning}" for warning in warnings_of(self.rows, self.as_text, self.data)]
        return [f"{self.path.name}: {sentence}" for sentence in found]


def remarks_of(files: Iterable[FileOfRows]) -> list[str]:
    """The remarks on all files, in their order."""
    return [line for file in files for line in file.remarks()]


def print_remarks(remarks: Iterable[str], *, as_json: bool) -> None:
    """Prints the remarks, unless the command prints JSON, which has them in its `warnings`."""
    for line in () if as_json else remarks:
        typer.echo(line)
