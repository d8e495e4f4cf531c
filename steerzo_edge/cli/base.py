"""`steerzo base`: packs a base into one file, and lists and drops the packed copies of the cache."""

from pathlib import Path
from typing import Annotated

import typer

from steerzo_edge.cli.output import AsJson, plain_errors

base_app = typer.Typer(help="Packed bases: quantized once, kept in a file, mapped later.", no_args_is_help=True)

PackedDir = Annotated[
    Path | None,
    typer.Option(help="The cache: STEERZO_PACKED_DIR or ~/.cache/steerzo/packed; of a server, DATA_DIR/packed."),
]


@base_app.command("pack")
def pack(
    name: Annotated[str, typer.Argument(help='Hub id, path, or "bundled".')],
    quantization: Annotated[str, typer.Option(help="nf4, fp4, int8 or none.")] = "nf4",
    compute_dtype: Annotated[str, typer.Option(help="bfloat16, float16 or float32.")] = "bfloat16",
    base_revision: Annotated[str | None, typer.Option(help="Commit, tag or branch of a hub model.")] = None,
    to: Annotated[
        Path | None, typer.Option(help="A file that ends in .packed, for this or another machine; else the cache.")
    ] = None,
    packed_dir: PackedDir = None,
    as_json: AsJson = False,
) -> None:
    """Pack a base into the cache, or into a file that `--base` opens on any machine."""
    from steerzo_edge.cli.packing import pack_command

    with plain_errors():
        pack_command(
            name=name,
            revision=base_revision,
            quantization=quantization,
            compute_dtype=compute_dtype,
            to=to,
            directory=packed_dir,
            as_json=as_json,
        )


@base_app.command("list")
def list_packed(packed_dir: PackedDir = None, as_json: AsJson = False) -> None:
    """List the packed copies of the cache, the most recently used first."""
    from steerzo_edge.cli.packing import list_command

    with plain_errors():
        list_command(directory=packed_dir, as_json=as_json)


@base_app.command("drop")
def drop(
    name: Annotated[str | None, typer.Argument(help="A base, or the key of a copy, as `list` prints them.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Drop all copies that no process has open.")] = False,
    packed_dir: PackedDir = None,
    as_json: AsJson = False,
) -> None:
    """Delete packed copies; those that a process has open are kept."""
    from steerzo_edge.cli.packing import drop_command

    with plain_errors():
        drop_command(name=name, every=every, directory=packed_dir, as_json=as_json)
