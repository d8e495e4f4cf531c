"""`steerzo keys`: make, list and revoke API keys, also while the server runs."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from steerzo_edge.cli.output import plain_errors

if TYPE_CHECKING:
    from server.store.keys import Keys

keys_app = typer.Typer(help="API keys of a server; it may be running.", no_args_is_help=True)

DataDir = Annotated[Path | None, typer.Option(help="The server's data directory; ~/.steerzo by default.")]
KeyName = Annotated[str, typer.Argument(help="The key's name.")]


@keys_app.command("create")
def create(name: KeyName, data_dir: DataDir = None) -> None:
    """Make a key and print it once; only its hash is stored. From the first key on, the server requires one."""
    with _keys(data_dir) as keys:
        typer.echo(keys.create(name))
        typer.echo("This key is shown once. Send it as `Authorization: Bearer KEY`.", err=True)


@keys_app.command("list")
def list_keys(data_dir: DataDir = None) -> None:
    """List every key: its name, when it was made, when it was revoked."""
    with _keys(data_dir) as keys:
        for row in keys.all():
            ended = "" if row.revoked is None else f"  revoked {_day(row.revoked)}"
            typer.echo(f"{row.name}  made {_day(row.created)}{ended}")


@keys_app.command("revoke")
def revoke(name: KeyName, data_dir: DataDir = None) -> None:
    """Revoke a key: the server rejects it from the next request on."""
    with _keys(data_dir) as keys:
        keys.revoke(name)
        typer.echo(f"{name} is revoked")


@contextmanager
def _keys(data_dir: Path | None) -> Iterator["Keys"]:
    from server.data_dir import data_dir_of
    from server.store.database import Database
    from server.store.keys import Keys

    os.umask(0o077)
    with plain_errors():
        directory = data_dir_of(os.environ, data_dir)
        directory.mkdir(parents=True, exist_ok=True)
        database = Database(directory / "steerzo.sqlite")
        try:
            yield Keys(database)
        finally:
            database.close()


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
