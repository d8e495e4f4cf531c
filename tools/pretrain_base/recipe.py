"""Makes a base: tokenizes texts, trains the weights, writes a base directory with its card. It can be resumed.

OUT/work    tokenizer, token files, checkpoint.pt        not shipped; safe to delete once the base is made
OUT/base    weights in bf16, tokenizer, card, manifest   read by `load_base`
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaForCausalLM

from benchmarks.machine import description
from steerzo_edge.model.load import default_device, quiet
from tools.pretrain_base.bits import score
from tools.pretrain_base.card import write_card
from tools.pretrain_base.documents import documents
from tools.pretrain_base.evaluation import Text, compare, held_out_text
from tools.pretrain_base.mix import Mix
from tools.pretrain_base.rows import Rows
from tools.pretrain_base.settings import Settings
from tools.pretrain_base.shape import Shape, fitting, random_model
from tools.pretrain_base.tokens import load_corpora, load_prepared_tokenizer, prepare
from tools.pretrain_base.training import Pretraining

_WATCHED = 8_000  # bytes of each corpus that are scored at every checkpoint
_UNLIMITED = 1 << 30  # texts are scored in windows, so none is too long for the tokenizer


@dataclass(frozen=True, slots=True)
class Recipe:
    """The settings of a base.

    Args:
        name: Name of the model in its card.
        mix: The corpora.
        data: Where their files are.
        out: Where everything goes.
        budget_mb: Megabytes (10**6 bytes) of the weights in bf16.
        vocabulary: Pieces of the tokenizer, at most.
        tied: Whether embedding and output head are one matrix.
        settings: Of the training.
        tokenizer_characters: Of text that the tokenizer learns from.
        evaluated_bytes: Of each corpus, for the card.
    """

    name: str
    mix: Mix
    data: Path
    out: Path
    budget_mb: float
    vocabulary: int
    settings: Settings
    tied: bool = True
    tokenizer_characters: int = 40_000_000
    evaluated_bytes: int = 50_000


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of the training, printed at every checkpoint.

    Args:
        step: Steps done.
        steps: Of the whole run, as far as known.
        loss: Mean over the steps since the line before, in nats a token.
        bits_per_byte: Mean of the corpora's held-out beginnings.
        seconds: Of training.
    """

    step: int
    steps: int
    loss: float
    bits_per_byte: float
    seconds: float


def make_base(recipe: Recipe, stop: Callable[[], bool] = lambda: False) -> Iterator[Progress]:
    """Makes a base, or resumes one.

    Args:
        recipe: What is asked for.
        stop: Looked at after every step; a run that is stopped has saved where it is, and no base yet.

    Yields:
        At every checkpoint, the last step's included.

    Raises:
        InputError: If texts cannot be read, nothing fits the budget, or the directory holds another run.
        DivergedError: If a loss is not finite.
        OSError: If the disk is full or fails.
    """
    work = recipe.out / "work"
    prepared = prepare(
        recipe.mix, recipe.data, work, vocabulary=recipe.vocabulary, characters=recipe.tokenizer_characters
    )
    tokenizer = load_prepared_tokenizer(work, _UNLIMITED)
    shape = fitting(recipe.budget_mb, len(tokenizer), tied=recipe.tied)
    run = _opened(recipe, shape, prepared)
    watched = held_out_text(documents(recipe.mix, recipe.data), _WATCHED)
    losses: list[float] = []

    def saved() -> Progress:
        bits = _watched(run.model, tokenizer, watched, recipe.settings.context)
        progress = Progress(run.step, run.steps or run.step, sum(losses) / len(losses), bits, run.seconds)
        losses.clear()
        run.history.append(asdict(progress))
        run.save(work / "checkpoint.pt")
        return progress

    for step in run.run(stop):
        losses.append(step.loss)
        if run.step % recipe.settings.save_every == 0:
            yield saved()
    if losses:
        yield saved()
    if run.step == run.steps:
        _finish(recipe, shape, run, prepared)


def _opened(recipe: Recipe, shape: Shape, prepared: dict[str, Any]) -> Pretraining:
    work, settings = recipe.out / "work", recipe.settings
    rows = Rows(load_corpora(work, recipe.mix), recipe.mix.shares, settings.context + 1, settings.seed)
    model = random_model(shape, settings.context, settings.seed).to(default_device())
    origin = hashlib.sha256(json.dumps(prepared, sort_keys=True).encode()).hexdigest()
    run = Pretraining(model, rows, settings, origin)
    if (work / "checkpoint.pt").exists():
        run.restore(work / "checkpoint.pt")
    return run


def _watched(model: LlamaForCausalLM, tokenizer: Any, texts: dict[str, Text], context: int) -> float:
    found = [score(model, tokenizer, text.documents, context=context).bits_per_byte for text in texts.values()]
    return sum(found) / len(found)


def _finish(recipe: Recipe, shape: Shape, run: Pretraining, prepared: dict[str, Any]) -> None:
    base = recipe.out / "base"
    base.mkdir(exist_ok=True)
    write_base(base, run.model, recipe)
    device = run.model.device
    settings = recipe.settings
    facts = {
        "prepared": prepared,
        "shape": asdict(shape)
        | {
            "parameters": shape.parameters,
            "feed_forward": shape.feed_forward,
            "head": shape.head,
            "mb": round(shape.bytes / 10**6, 2),
        },
        "settings": asdict(settings),
        "run": {
            "steps": run.step,
            "tokens": run.tokens,
            "tokens_a_step": settings.rows * settings.context,
            "seconds": run.seconds,
            "loss": run.history[-1]["loss"],
            "passes": dict(zip(recipe.mix.shares, run.passes(), strict=True)),
            "precision": "bfloat16 autocast" if settings.low(device) else "float32",
            "machine": description(device),
            "history": run.history,
        },
        "evaluation": compare([str(base)], recipe.mix, recipe.data, limit=recipe.evaluated_bytes),
    }
    write_card(base, recipe.mix, recipe.data, recipe.name, facts)


def write_base(base: Path, model: LlamaForCausalLM, recipe: Recipe) -> None:
    """Weights in bf16 and the tokenizer, as `load_base` takes them; the model itself stays float32.

    Args:
        base: The directory.
        model: As trained.
        recipe: Whose tokenizer it has.
    """
    shipped = LlamaForCausalLM(model.config)
    shipped.load_state_dict(model.state_dict())
    shipped.generation_config = model.generation_config
    with quiet():
        shipped.to(torch.bfloat16).save_pretrained(base)
        load_prepared_tokenizer(recipe.out / "work", recipe.settings.context).save_pretrained(base)
    (base / "model.safetensors").chmod(0o644)  # safetensors makes it readable by its owner only
