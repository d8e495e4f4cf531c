"""Options that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

Revision = Annotated[str | None, typer.Option("--base-revision", help="Commit, tag or branch of a hub model.")]

BenchmarkTask = Annotated[
    str | None, typer.Option("--task", help="The benchmark task that published the rows: rte, ...")
]
FormatName = Annotated[
    str | None,
    typer.Option("--format", help="The format of the rows, if their fields do not decide it: plain, ..."),
]

Template = Annotated[str | None, typer.Option(help="Prompt for labelled rows; {text} is the row's text.")]
OptionWords = Annotated[Path | None, typer.Option(help="JSON file: the option word of each label.")]
FieldMap = Annotated[str | None, typer.Option("--map", help="Other names for fields: prompt=question,...")]
AllowControlTokens = Annotated[
    bool, typer.Option("--allow-control-tokens", help="Read control tokens in texts as such, not as text.")
]
