"""`steerzo push`: uploads an adapter to the Hugging Face hub."""

import json
from pathlib import Path
from typing import Annotated

import typer

from steerzo_edge.cli.output import AsJson, plain_errors


def push(
    adapter: Annotated[Path, typer.Argument(help="A PEFT adapter directory.")],
    repository: Annotated[str, typer.Argument(help="Its name on the hub: owner/name.")],
    public: Annotated[bool, typer.Option("--public", help="Let everyone see it; private by default.")] = False,
    base: Annotated[
        str | None, typer.Option(help="Hub id of the base, instead of the name in the adapter's configuration.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Upload an adapter to the Hugging Face hub, with a model card; private unless --public is given."""
    from steerzo_edge.cli.options import check_adapter_directory
    from steerzo_edge.export.push import push as pushed

    with plain_errors():
        check_adapter_directory(adapter)
        made = pushed(adapter, repository, public=public, base=base)
        said = {"url": made.url, "private": made.private}
        typer.echo(json.dumps(said) if as_json else f"{made.url} ({'private' if made.private else 'public'})")
