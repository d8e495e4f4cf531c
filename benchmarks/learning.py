"""One fine-tuning run of `benchmarks.quality` on real rows, and what it reached.

A run is a function of (dataset, method, learning rate, budget, seed); its curve is the loss and accuracy on
validation rows over forward passes. The frozen prefix of a dataset is computed once and shared by all its runs.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.workloads import DATA, INTENTS, fill_prefix
from steerzo_edge.assemble import assemble
from steerzo_edge.data.examples import Dataset, Labelled
from steerzo_edge.data.task import Task
from steerzo_edge.data.tokenization import Tokenized
from steerzo_edge.errors import DivergedError
from steerzo_edge.model.base import Base
from steerzo_edge.model.prefix import PrefixStore
from steerzo_edge.model.subset import Copies
from steerzo_edge.objectives.evaluation import Evaluation, evaluate
from steerzo_edge.records import EvalRecord, StepRecord, TuneRecord, WatchRecord
from steerzo_edge.run_data import tokenized
from steerzo_edge.settings.profile import Profile, resolve
from steerzo_edge.training.loop import finetune
from steerzo_edge.training.parts import Parts
from steerzo_edge.zo.tuning import FOLLOWED, PAIRS, RADII, RUNGS

TRAIN, VALIDATION, TEST = 1000, 300, 400
POINTS = 12


@dataclass(frozen=True, slots=True)
class Source:
    """Where a dataset is, and the prompt that its rows become.

    Args:
        folder: Under the directory of the public data sets.
        text: The field of a row, or fields that are joined by a blank.
        label: The field of its class.
        template: The prompt.
        options: The answer word of each class, one token each for the bundled base.
    """

    folder: str
    text: tuple[str, ...]
    label: str
    template: str
    options: dict[str, str]


SOURCES = {
    "trec": Source(
        "practical/trec",
        ("text",),
        "coarse_label",
        "{text}\nThis asks about a",
        {"ABBR": "word", "DESC": "meaning", "ENTY": "thing", "HUM": "person", "LOC": "place", "NUM": "number"},
    ),
    "ag_news": Source(
        "practical/ag_news",
        ("Title", "Description"),
        "Class Index",
        "{text}\nThis is about",
        {"1": "world", "2": "sports", "3": "business", "4": "science"},
    ),
    "sms_spam": Source(
        "practical/sms_spam",
        ("text",),
        "label",
        "{text}\nIs this an advertisement? Answer:",
        {"ham": "no", "spam": "yes"},
    ),
    "sst2": Source("tasks/sst2", ("sentence",), "label", "{text} It was", {"0": "terrible", "1": "great"}),
}
NAMES = ("snips", *SOURCES)


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a dataset.

    Args:
        train: To learn from.
        validation: To draw curves and choose learning rates by.
        test: Evaluated once, at the end of a run.
    """

    train: Dataset
    validation: Dataset
    test: Dataset


def rows_of(name: str) -> Rows:
    """Rows of a dataset's own training and test files, shuffled: some files are sorted by class.

    Args:
        name: One of `NAMES`; "snips" ships with the package, the others lie in the directory of public data sets.
    """
    if name == "snips":
        task = Task.parse(json.loads((INTENTS / "task.json").read_text()), where="task")
        texts = [(INTENTS / f"{part}.jsonl").read_text(encoding="utf-8") for part in ("train", "test")]
        read = [[json.loads(line) for line in text.splitlines()] for text in texts]
        train, test = ([Labelled(row["text"], row["label"]) for row in rows] for rows in read)
    else:
        source = SOURCES[name]
        task = Task(template=source.template, options=source.options)
        train, test = (_labelled(DATA / source.folder / f"{part}.jsonl", source) for part in ("train", "test"))
    train, test = _shuffled(train), _shuffled(test)
    return Rows(
        _dataset(train[:TRAIN], task),
        _dataset(test[:VALIDATION], task),
        _dataset(test[VALIDATION : VALIDATION + TEST], task),
    )


def _labelled(path: Path, source: Source) -> list[Labelled]:
    with path.open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return [Labelled(". ".join(row[field] for field in source.text), str(row[source.label])) for row in rows]


def _shuffled(examples: list[Labelled]) -> list[Labelled]:
    order = torch.randperm(len(examples), generator=torch.Generator().manual_seed(0))
    return [examples[index] for index in order.tolist()]


def _dataset(examples: list[Labelled], task: Task) -> Dataset:
    return Dataset("classification", tuple(examples), tuple(range(1, len(examples) + 1)), task)


class Bed:
    """A dataset ready for many runs on one base.

    Args:
        base: The frozen model.
        name: Of the dataset.
        subset: Section of a profile.
        batch: Section of a profile.
    """

    def __init__(self, base: Base, name: str, subset: Mapping[str, Any], batch: Mapping[str, Any]) -> None:
        self.base = base
        self.name = name
        self._fixed = {"subset": dict(subset), "batch": dict(batch), "evaluate": {"examples": VALIDATION}}
        rows = rows_of(name)
        plain = resolve(self._fixed)
        data = tokenized(base.tokenizer, base.context_length, plain, rows.train, rows.validation, seed=0)
        self.data = data
        self.test: Tokenized = tokenized(base.tokenizer, base.context_length, plain, rows.test, None, seed=0).train
        self._prefix: PrefixStore | None = None

    def parts(self, settings: Mapping[str, Any], steps: int, seed: int) -> Parts:
        """A run's parts; `settings` are the sections method, rule, schedule and watch of a profile."""
        every = max(1, steps // POINTS)
        profile = resolve({**self._fixed, **settings, "steps": steps}, {"evaluate.every": every})
        parts = assemble(self.base, profile, self.data, seed, prefix=self._prefix)
        if self._prefix is None and parts.prefix is not None:
            self._prefix = parts.prefix
            fill_prefix(parts, TRAIN, profile.batch.examples)
        return parts

    def tested(self, parts: Parts) -> Evaluation:
        """Evaluates the test rows with the parameters as they are."""
        return evaluate(self.base, self.test, Copies(parts.subset, 1).hold())


def settings_of(method: Mapping[str, Any], rate: float | str, epsilon: float | str) -> dict[str, Any]:
    """The sections of a profile that make a method of the table; a rate of "auto" has the watcher too."""
    return {
        "method": {**method, "epsilon": epsilon},
        "rule": {"kind": "sgd", "learning_rate": rate},
        "schedule": {"kind": "linear"},
        "watch": {"enabled": rate == "auto"},
    }


def steps_within(budget: int, settings: Mapping[str, Any]) -> int:
    """How many steps a number of forward passes is enough for, what "auto" takes included."""
    profile = Profile.model_validate({"method": settings["method"], "rule": settings["rule"]})
    cost = profile.method.cost
    if profile.method.epsilon == "auto":
        budget -= PAIRS * 2 * len(RADII)
    if isinstance(profile.rule.learning_rate, str):
        budget -= FOLLOWED * (cost + 1 + len(RUNGS))
    return budget // cost


def learn(bed: Bed, settings: Mapping[str, Any], steps: int, seed: int) -> dict[str, Any]:
    """Trains to the end of the budget.

    Returns:
        JSON-ready: "curve", rows of (step, forwards, loss, accuracy) on validation rows; "loss", "accuracy" at its
        end; "test", the same on the test rows; "forwards"; "found", the values of settings left to "auto";
        "messages" of the run's own decisions. The loss of a run that diverged is None.
    """
    parts = bed.parts(settings, steps, seed)
    curve: list[tuple[int, int, float, float | None]] = []
    kept: dict[int, torch.Tensor] = {}
    found: dict[str, Any] = {}
    messages: list[str] = []
    forwards = 0

    def rewind(step: int) -> None:
        parts.subset.parameters.copy_(kept[step])

    try:
        for record in finetune(parts, rewind=rewind):
            match record:
                case EvalRecord():
                    kept[record.step] = parts.subset.parameters.clone()
                    curve.append((record.step, forwards, record.loss, record.accuracy))
                case StepRecord():
                    forwards = record.forwards
                case TuneRecord():
                    forwards = record.forwards
                    found = {"epsilon": record.epsilon, "learning_rate": record.learning_rate}
                    messages.append(record.message)
                case WatchRecord():
                    messages.append(record.message)
    except DivergedError as error:
        return {"curve": curve, "loss": None, "accuracy": None, "forwards": forwards, "messages": [str(error)]}
    last = curve[-1]
    tested = bed.tested(parts)
    return {
        "curve": curve,
        "loss": last[2] if math.isfinite(last[2]) else None,
        "accuracy": last[3],
        "test": {"loss": tested.loss, "accuracy": tested.accuracy},
        "forwards": forwards,
        "found": found,
        "messages": messages,
    }
