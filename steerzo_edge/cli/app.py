"""The commands that need no server, one function each; each imports its code only when it runs."""

from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from steerzo_edge import __version__
from steerzo_edge.cli.arguments import (
    AllowControlTokens,
    BenchmarkTask,
    FieldMap,
    FormatName,
    OptionWords,
    Revision,
    Template,
)
from steerzo_edge.cli.base import base_app
from steerzo_edge.cli.output import AsJson, plain_errors
from steerzo_edge.cli.profiles import Set, profiles_app
from steerzo_edge.cli.push import push
from steerzo_edge.cli.sweep_options import sweep

app = typer.Typer(
    help="Fine-tune quantized language models with forward passes only, and serve them from the same base.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(profiles_app, name="profiles")
data_app = typer.Typer(help="Files with training rows.", no_args_is_help=True)
app.add_typer(data_app, name="data")
app.add_typer(base_app, name="base")
app.command()(push)
app.command()(sweep)


def _version(requested: bool) -> None:
    if requested:
        typer.echo(f"steerzo-edge {__version__} (torch {metadata.version('torch')})")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False,
) -> None:
    """Options before the command."""


@app.command()
def train(
    dataset: Annotated[
        Path, typer.Option(help="Training rows: JSON lines, JSON, CSV, Parquet, or hub:owner/name.")
    ],
    out: Annotated[Path, typer.Option(help="Directory of the run; a run that it holds is continued.")],
    profile: Annotated[str, typer.Option(help="A profile's name or a .yaml file.")] = "cpu-demo",
    base: Annotated[str | None, typer.Option(help="Hub id or path of the base, instead of the profile's.")] = None,
    base_revision: Revision = None,
    validation: Annotated[Path | None, typer.Option(help="Rows to evaluate on.")] = None,
    template: Template = None,
    options: OptionWords = None,
    task: BenchmarkTask = None,
    format: FormatName = None,
    map: FieldMap = None,
    seed: Annotated[int, typer.Option(help="Seed of all random choices.")] = 0,
    set_: Set = None,
    allow_control_tokens: AllowControlTokens = False,
    as_json: AsJson = False,
) -> None:
    """Fine-tune an adapter without a server. After an interruption the same command continues the run."""
    from steerzo_edge.cli.train import train_command

    with plain_errors():
        train_command(
            dataset=dataset,
            out=out,
            profile=profile,
            base=base,
            revision=base_revision,
            validation=validation,
            template=template,
            options=options,
            benchmark=task,
            format=format,
            map=map,
            seed=seed,
            settings=set_ or [],
            allow_control_tokens=allow_control_tokens,
            as_json=as_json,
        )


@app.command()
def generate(
    prompt: Annotated[str, typer.Argument(help="The text to continue; - reads standard input.")],
    adapter: Annotated[Path | None, typer.Option(help="A PEFT adapter directory.")] = None,
    base: Annotated[str, typer.Option(help='Hub id, path, or "bundled".')] = "bundled",
    base_revision: Revision = None,
    quantization: Annotated[str, typer.Option(help="nf4, fp4, int8, none or gptq.")] = "nf4",
    chat: Annotated[bool, typer.Option(help="Send the prompt as the user's turn of a conversation.")] = False,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Most tokens of the answer.")] = 64,
    temperature: Annotated[float, typer.Option(min=0, max=10, help="0 takes the likeliest token.")] = 0.0,
    top_p: Annotated[float, typer.Option(min=0.01, max=1, help="Probability of the tokens kept.")] = 1.0,
    top_k: Annotated[int, typer.Option(min=0, help="Sample from so many likeliest tokens; 0 from all.")] = 0,
    stop: Annotated[list[str] | None, typer.Option(help="Text that ends the answer.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the sampling.")] = 0,
    allow_control_tokens: AllowControlTokens = False,
    as_json: AsJson = False,
) -> None:
    """Answer a prompt, with or without an adapter."""
    from steerzo_edge.cli.generate import generate_command
    from steerzo_edge.decoding.generate import Sampling

    with plain_errors():
        generate_command(
            prompt=prompt,
            adapter=adapter,
            base=base,
            revision=base_revision,
            quantization=quantization,
            chat=chat,
            sampling=Sampling(max_new_tokens, temperature, top_p, top_k, tuple(stop or ()), seed),
            allow_control_tokens=allow_control_tokens,
            as_json=as_json,
        )


@app.command()
def export(
    adapter: Annotated[Path, typer.Argument(help="A PEFT adapter directory.")],
    out: Annotated[Path, typer.Option(help="Directory or file of the result; must not exist.")],
    format: Annotated[
        str, typer.Option(help="peft, merged (a 16-bit checkpoint), gguf (for llama.cpp), gguf-lora or ollama.")
    ] = "merged",
    base: Annotated[
        str | None, typer.Option(help='Hub id, path, or "bundled"; by default the base that the adapter names.')
    ] = None,
    revision: Annotated[
        str | None, typer.Option("--base-revision", "--revision", help="Commit, tag or branch of a hub model.")
    ] = None,
    system: Annotated[str | None, typer.Option(help="With ollama: the system message.")] = None,
    num_ctx: Annotated[int | None, typer.Option(min=1, help="With ollama: tokens of the context.")] = None,
    parent: Annotated[
        str | None, typer.Option("--from", help="With ollama: the base there; the adapter alone is written.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write an adapter in another format; the result is checked before it is kept."""
    from steerzo_edge.cli.export import export_command

    with plain_errors():
        export_command(
            adapter=adapter,
            format=format,
            out=out,
            base=base,
            revision=revision,
            ollama={"system": system, "context_tokens": num_ctx, "parent": parent},
            as_json=as_json,
        )


@app.command()
def evaluate(
    dataset: Annotated[Path, typer.Option(help="Rows to evaluate on: JSON lines, JSON, CSV or Parquet.")],
    task: BenchmarkTask = None,
    format: FormatName = None,
    map: FieldMap = None,
    template: Template = None,
    options: OptionWords = None,
    adapter: Annotated[Path | None, typer.Option(help="A PEFT adapter directory.")] = None,
    base: Annotated[str, typer.Option(help='Hub id, path, or "bundled".')] = "bundled",
    base_revision: Revision = None,
    quantization: Annotated[str, typer.Option(help="nf4, fp4, int8, none or gptq.")] = "nf4",
    examples: Annotated[int, typer.Option(min=1, help="Most rows evaluated.")] = 200,
    shots: Annotated[int, typer.Option(min=0, help="Solved examples put before each row.")] = 0,
    demonstrations: Annotated[Path | None, typer.Option(help="File that solved examples are taken from.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the choice of rows and solved examples.")] = 0,
    allow_control_tokens: AllowControlTokens = False,
    as_json: AsJson = False,
) -> None:
    """Evaluate a base on rows: with or without an adapter, zero-shot and with solved examples."""
    from steerzo_edge.cli.evaluate import evaluate_command

    with plain_errors():
        evaluate_command(
            dataset=dataset,
            benchmark=task,
            format=format,
            map=map,
            template=template,
            options=options,
            adapter=adapter,
            base=base,
            revision=base_revision,
            quantization=quantization,
            examples=examples,
            shots=shots,
            demonstrations=demonstrations,
            seed=seed,
            allow_control_tokens=allow_control_tokens,
            as_json=as_json,
        )


@app.command("estimate")
def estimate_(
    profile: Annotated[str, typer.Option(help="A profile's name or a .yaml file.")] = "cpu-demo",
    dataset: Annotated[
        Path | None, typer.Option(help="JSON lines, JSON, CSV or Parquet; their real lengths are used.")
    ] = None,
    base: Annotated[str | None, typer.Option(help="Hub id or path of the base, instead of the profile's.")] = None,
    template: Template = None,
    options: OptionWords = None,
    task: BenchmarkTask = None,
    format: FormatName = None,
    map: FieldMap = None,
    set_: Set = None,
    probe: Annotated[
        bool, typer.Option("--probe", help="Load the base and time one of its layers for the seconds.")
    ] = False,
    curve: Annotated[
        bool, typer.Option("--curve", help="Take some steps in every way to run the job, and compare the ways.")
    ] = False,
    seconds: Annotated[float, typer.Option(min=1, help="That --curve may take.")] = 120,
    loss: Annotated[
        float | None, typer.Option(min=0, help="That --curve compares the ways at; by default the lowest it sees.")
    ] = None,
    picture: Annotated[Path | None, typer.Option(help="A .svg, .png or .pdf of the --curve.")] = None,
    as_json: AsJson = False,
) -> None:
    """Estimate the memory and time of a run, and whether back-propagation would be the better choice."""
    from steerzo_edge.cli.estimate import estimate_command
    from steerzo_edge.cli.estimate_curve import CurveWish

    with plain_errors():
        estimate_command(
            profile=profile,
            dataset=dataset,
            base=base,
            template=template,
            options=options,
            benchmark=task,
            format=format,
            map=map,
            settings=set_ or [],
            probe=probe,
            curve=CurveWish(seconds, loss, picture) if curve or picture else None,
            as_json=as_json,
        )


@data_app.command("check")
def check_data(
    file: Annotated[Path, typer.Argument(help="JSON lines, JSON, CSV or Parquet.")],
    task: BenchmarkTask = None,
    format: FormatName = None,
    map: FieldMap = None,
    base: Annotated[
        str, typer.Option(help='Base whose tokens are counted: hub id, path, or "bundled".')
    ] = "bundled",
    max_tokens: Annotated[
        int | None, typer.Option(min=8, help="Longest row; by default the base's context.")
    ] = None,
    allow_control_tokens: AllowControlTokens = False,
    as_json: AsJson = False,
) -> None:
    """Check every row of a file and describe its content; exit code 2 if a row cannot be used."""
    from steerzo_edge.cli.data import check_command

    with plain_errors():
        check_command(
            file=file,
            benchmark=task,
            format=format,
            map=map,
            base=base,
            max_tokens=max_tokens,
            allow_control_tokens=allow_control_tokens,
            as_json=as_json,
        )


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Check the device, a real 4-bit product, memory, disk and versions."""
    from steerzo_edge.cli.doctor import doctor_command

    with plain_errors():
        doctor_command(as_json=as_json)
