"""A recipe that is small enough for tests."""

from pathlib import Path
from typing import Any

from tools.pretrain_base.mix import Mix
from tools.pretrain_base.rows import Rows
from tools.pretrain_base.schedule import Schedule
from tools.pretrain_base.settings import Settings
from tools.pretrain_base.shape import Shape, random_model
from tools.pretrain_base.tokens import load_corpora
from tools.pretrain_base.training import Pretraining

SETTINGS = Settings(
    context=32,
    batch_tokens=128,
    forward_tokens=64,
    learning_rate=1e-2,
    schedule=Schedule(warmup=2),
    steps=6,
    save_every=3,
)
VOCABULARY = 300


def tale(index: int) -> str:
    who, what = ("Ann", "Ben", "Cleo", "Dan")[index % 4], ("bread", "a red kite", "two stones")[index % 3]
    return f"Tale {index}\n\n{who} had {what} on day {index}. Nobody else had {what}, and {who} was glad of it."


def rows_of(prepared: Path, mix: Mix, seed: int = 0) -> Rows:
    return Rows(load_corpora(prepared, mix), mix.shares, SETTINGS.context + 1, seed)


def pretraining(prepared: Path, mix: Mix, settings: Settings = SETTINGS, **others: Any) -> Pretraining:
    model = random_model(Shape(VOCABULARY, 64, 1), settings.context, settings.seed)
    return Pretraining(model, rows_of(prepared, mix), settings, "here", **others)
