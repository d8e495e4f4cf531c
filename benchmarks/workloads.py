"""Real rows for measurements, from a directory of the public data sets (by default ../shared/data).

Where it is absent, the bundled commands are used instead, with a message that says so.
"""

import json
import os
from pathlib import Path
from typing import Any

from steerzo_edge.data.examples import Completion, Dataset, Labelled
from steerzo_edge.data.reading import read_dataset
from steerzo_edge.data.task import Task
from steerzo_edge.model.base import Base
from steerzo_edge.model.layers import layer_count
from steerzo_edge.training.parts import Parts

DATA = Path(os.environ.get("STEERZO_BENCH_DATA", Path(__file__).parent.parent.parent / "shared" / "data"))
INTENTS = Path(__file__).parent.parent / "steerzo_edge" / "assets" / "intents"


def workload(name: str, rows: int = 1000) -> Dataset:
    """The first training rows of a task, with its prompt.

    Args:
        name: "sst2", "boolq", "squad" or "intents".
        rows: How many.
    """
    if name == "intents" or not DATA.is_dir():
        task = Task.parse(json.loads((INTENTS / "task.json").read_text()), where="task")
        return read_dataset((INTENTS / "train.jsonl").read_bytes(), task=task).pick(list(range(rows)))
    with (DATA / "tasks" / name / "train.jsonl").open(encoding="utf-8") as file:
        found = [json.loads(line) for _, line in zip(range(rows), file, strict=False)]
    return _MAKERS[name](found)


def top_quarter(base: Base) -> int:
    """The number of layers in the topmost quarter, at least one."""
    return max(1, layer_count(base.model.config) // 4)


def _classification(rows: list[tuple[str, int]], template: str, words: list[str]) -> Dataset:
    examples = tuple(Labelled(text, str(label)) for text, label in rows)
    task = Task(template=template, options={str(index): word for index, word in enumerate(words)})
    return Dataset("classification", examples, tuple(range(1, len(examples) + 1)), task)


def _sst2(rows: list[dict[str, Any]]) -> Dataset:
    texts = [(row["sentence"], int(row["label"])) for row in rows]
    return _classification(texts, "{text} It was", ["terrible", "great"])


def _boolq(rows: list[dict[str, Any]]) -> Dataset:
    texts = [(f"{row['passage']} {row['question']}?", int(row["label"])) for row in rows]
    return _classification(texts, "{text}\n", ["No", "Yes"])


def _squad(rows: list[dict[str, Any]]) -> Dataset:
    examples = tuple(
        Completion(
            f"Context: {row['context']}\nQuestion: {row['question']}\nAnswer:", f" {row['answers'][0]['text']}"
        )
        for row in rows
    )
    return Dataset("completion", examples, tuple(range(1, len(examples) + 1)))


def fill_prefix(parts: Parts, rows: int, size: int) -> None:
    """Computes the frozen prefix of all rows, if there is one, as the first epoch of a run does.

    Args:
        parts: Of the run.
        rows: How many there are.
        size: Rows a batch.
    """
    if parts.prefix is not None:
        for step in range(-(-rows // size)):
            parts.prefix.of(parts.batches(step).packed)


_MAKERS = {"sst2": _sst2, "boolq": _boolq, "squad": _squad}
