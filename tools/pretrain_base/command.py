"""The commands: `train` makes a base or resumes one, `evaluate` compares models, `shapes` shows the presets.

python -m tools.pretrain_base train --out DIR --preset 10m --minutes 20
python -m tools.pretrain_base evaluate --model bundled --model DIR/base --json FILE
"""

import argparse
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from steerzo_edge.errors import SteerzoError
from steerzo_edge.storage.files import write_json
from tools.pretrain_base.evaluation import CONTEXT, compare
from tools.pretrain_base.mix import DEFAULT_MIX, load_mix
from tools.pretrain_base.recipe import Recipe, make_base
from tools.pretrain_base.schedule import Schedule
from tools.pretrain_base.settings import Settings
from tools.pretrain_base.shape import PRESETS, fitting

DATA = Path(os.environ.get("STEERZO_BENCH_DATA", Path(__file__).parents[3] / "shared" / "data"))
STOPPED = 75  # EX_TEMPFAIL of sysexits.h: run the same command again


def main(arguments: list[str] | None = None) -> None:
    """Runs a command.

    Args:
        arguments: Command-line arguments; by default those of the process.

    Raises:
        SystemExit: 1 with a message if something is wrong; 75 if training was stopped and can be resumed.
    """
    options = command_line().parse_args(arguments)
    console = Console(stderr=options.command == "train", width=150)
    try:
        code = options.do(options, console)
    except (SteerzoError, OSError) as error:
        console.print(f"{error} {getattr(error, 'hint', '')}", markup=False)
        code = 1
    if code:
        sys.exit(code)


def command_line() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = argparse.ArgumentParser(
        "pretrain_base", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("shapes", help="the presets").set_defaults(do=_shapes)
    train = commands.add_parser("train", help="make a base, or resume one")
    evaluate = commands.add_parser("evaluate", help="compare models in bits per byte of held-out text")
    for one, do in ((train, _train), (evaluate, _evaluate)):
        one.set_defaults(do=do)
        one.add_argument(
            "--data", type=Path, default=DATA, help="the directory that the paths of the mix are relative to"
        )
        one.add_argument("--mix", type=Path, default=DEFAULT_MIX)
        one.add_argument(
            "--bytes", type=int, default=50_000, help="bytes of held-out text to score, for each corpus"
        )
    evaluate.add_argument("--model", action="append", required=True, help='a directory, a hub id, or "bundled"')
    evaluate.add_argument("--context", type=int, default=CONTEXT, help="tokens of a scored window")
    evaluate.add_argument("--json", type=Path)
    _train_options(train)
    return parser


def _train_options(train: argparse.ArgumentParser) -> None:
    settings = Settings()
    train.add_argument("--out", type=Path, required=True)
    train.add_argument("--name", default="steerzo-small", help="name of the model in its card")
    train.add_argument("--preset", choices=PRESETS, default="10m")
    train.add_argument(
        "--budget-mb",
        type=float,
        help="size of the bf16 weights, embeddings included; by default that of the preset",
    )
    train.add_argument("--vocabulary", type=int, help="pieces of the tokenizer; by default that of the preset")
    train.add_argument("--untied", action="store_true", help="train an output head instead of using the embedding")
    train.add_argument("--tokenizer-characters", type=int, default=40_000_000)
    train.add_argument(
        "--minutes", type=float, default=settings.minutes, help="minutes of training, summed over all calls"
    )
    train.add_argument("--steps", type=int, help="steps of training, instead of --minutes")
    train.add_argument("--passes", type=float, default=settings.passes, help="most passes over any corpus")
    train.add_argument("--context", type=int, default=settings.context)
    train.add_argument("--batch-tokens", type=int, default=settings.batch_tokens)
    train.add_argument("--forward-tokens", type=int, default=settings.forward_tokens)
    train.add_argument("--learning-rate", type=float, default=settings.learning_rate)
    train.add_argument("--schedule", choices=("wsd", "cosine"), default=settings.schedule.kind)
    train.add_argument("--warmup", type=int, default=settings.schedule.warmup)
    train.add_argument("--save-every", type=int, default=settings.save_every, help="steps between checkpoints")
    train.add_argument("--seed", type=int, default=settings.seed)
    train.add_argument("--precision", choices=("auto", "bfloat16", "float32"), default=settings.precision)
    train.add_argument("--compile", action="store_true", help="use torch.compile")


def _train(options: argparse.Namespace, console: Console) -> int:
    preset = PRESETS[options.preset]
    recipe = Recipe(
        name=options.name,
        mix=load_mix(options.mix),
        data=options.data,
        out=options.out,
        budget_mb=options.budget_mb or preset.budget_mb,
        vocabulary=options.vocabulary or preset.vocabulary,
        tied=not options.untied,
        tokenizer_characters=options.tokenizer_characters,
        evaluated_bytes=options.bytes,
        settings=Settings(
            context=options.context,
            batch_tokens=options.batch_tokens,
            forward_tokens=options.forward_tokens,
            learning_rate=options.learning_rate,
            schedule=Schedule(options.schedule, options.warmup),
            steps=options.steps,
            minutes=options.minutes,
            passes=options.passes,
            save_every=options.save_every,
            seed=options.seed,
            precision=options.precision,
            compiled=options.compile,
        ),
    )
    stop = _stop_at_signals()
    done = False
    for progress in make_base(recipe, stop):
        done = progress.step == progress.steps
        console.print(", ".join(f"{key} {value:.4g}" for key, value in asdict(progress).items()))
    if stop() and not done:
        console.print("stopped and saved; run the same command again to resume")
        return STOPPED
    console.print(f"the base was written to {recipe.out / 'base'}")
    return 0


def _stop_at_signals() -> Callable[[], bool]:
    asked: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: asked.append(number))
    return lambda: bool(asked)


def _evaluate(options: argparse.Namespace, console: Console) -> int:
    found = compare(
        options.model, load_mix(options.mix), options.data, limit=options.bytes, context=options.context
    )
    console.print(_table(found))
    if options.json:
        write_json(options.json, found)
    return 0


def _table(found: dict[str, Any]) -> Table:
    table = Table("held-out text", "bytes", title=f"Bits per byte, windows of {found['context_tokens']} tokens")
    for model in found["models"]:
        table.add_column(f"{model['model']}\n{model['parameters']:,}", justify="right")
    for corpus, size in found["corpora"].items():
        scores = (f"{model['bits_per_byte'][corpus]:.3f}" for model in found["models"])
        table.add_row(corpus, f"{size['bytes']:,}", *scores)
    table.add_section()
    for row in ("all_bytes", "bytes_per_token", "documents_that_come_back"):
        table.add_row(row.replace("_", " "), "", *(f"{model[row]:.3f}" for model in found["models"]))
    return table


def _shapes(_: argparse.Namespace, console: Console) -> int:
    table = Table("preset", "parameters", "MB of bf16", "pieces", "width", "feed-forward", "layers")
    for name, preset in PRESETS.items():
        shape = fitting(preset.budget_mb, preset.vocabulary)
        sizes = (preset.vocabulary, shape.width, shape.feed_forward, shape.layers)
        table.add_row(name, f"{shape.parameters:,}", f"{shape.bytes / 10**6:.1f}", *map(str, sizes))
    console.print(table)
    return 0
