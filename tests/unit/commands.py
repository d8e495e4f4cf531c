"""Commands as a user types them, for tests."""

from pathlib import Path

from typer.testing import CliRunner, Result

from server.commands.app import app

SMALL = ["steps=8", "evaluate.every=4", "batch.max_tokens=64", "subset.rank=2", "subset.last_layers=2"]


def steerzo(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def train_arguments(rows: Path, out: Path, base: Path, *settings: str) -> list[str]:
    sets = [word for setting in (*SMALL, *settings) for word in ("--set", setting)]
    return ["train", "--dataset", str(rows), "--out", str(out), "--base", str(base), *sets]
