"""The adapters of fixed jobs keep their bytes, on the kinds of machine on which they were recorded.

Sums round differently with another processor, torch or number of threads. The file has a record for each kind of
machine that was at hand: one with AVX-512, from before the rebuild of the package, and one with AVX2 alone, from
when products there became float32's. On any other machine these tests are skipped.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from steerzo_edge.data.examples import Dataset
from steerzo_edge.data.reading import read_dataset
from steerzo_edge.model.load import load_base
from steerzo_edge.run import Run
from steerzo_edge.settings.profile import load_profile

RECORDED = {
    record["kernels"]: record["adapters"]
    for record in json.loads(Path(__file__).with_name("adapters.json").read_text())
}
INTENTS = Path(__file__).parents[2] / "steerzo_edge/assets/intents/train.jsonl"
THREADS = 2
COMMON = {"steps": 4, "evaluate.every": 2, "evaluate.examples": 12, "batch.examples": 8}
FIXED = {"epsilon": 0.01}
METHODS: dict[str, dict[str, Any]] = {
    "two-point": {"kind": "two-point", **FIXED},
    "guiding-vector": {"kind": "guiding-vector", "pool": 4, **FIXED},
    "guiding-vector-keep-best": {
        "kind": "guiding-vector", "pool": 3, "history": "keep-best", "normalize": False, **FIXED
    },
    "greedy": {"kind": "greedy", "pool": 3, **FIXED},
    "all-losses": {"kind": "all-losses", "pool": 4, **FIXED},
    "weighted-guide": {"kind": "weighted-guide", "pool": 3, "scaling": "running-rms", "clip": 2, **FIXED},
    "cone-rademacher": {"kind": "two-point", "cone": {"terms": 3}, "noise": "rademacher", **FIXED},
    "exact": {"kind": "exact"},
    "exact-completions": {"kind": "exact", "max_norm": None},
}  # fmt: skip
RULES = {
    "weighted-guide": {"kind": "momentum", "learning_rate": 0.01},
    "cone-rademacher": {"kind": "adam", "learning_rate": 0.01},
    "exact": {"kind": "adam", "learning_rate": 0.001},
    "exact-completions": {"kind": "momentum", "learning_rate": 0.01},
}


def labelled() -> tuple[str, str]:
    lines = INTENTS.read_text(encoding="utf-8").splitlines(keepends=True)
    return "labelled.jsonl", "".join(lines[:120])


def completions() -> tuple[str, str]:
    rows = [
        {
            "prompt": f"Item {i} is {'very ' * (i % 5)}",
            "completion": f" {'big' if i % 3 else 'small'} and {i % 7} old.",
        }
        for i in range(60)
    ]
    return "completion.jsonl", "".join(json.dumps(row) + "\n" for row in rows)


def choices() -> tuple[str, str]:
    ways = [" rained all day.", " was dry", " snowed"]
    rows = [{"prompt": f"On day {i} it", "choices": ways[: 2 + i % 2], "answer": i % 2} for i in range(60)]
    return "choices.jsonl", "".join(json.dumps(row) + "\n" for row in rows)


ROWS = {
    "guiding-vector-keep-best": completions,
    "weighted-guide": choices,
    "cone-rademacher": completions,
    "exact-completions": completions,
}


def rows_of(method: str) -> Dataset:
    name, text = ROWS.get(method, labelled)()
    return read_dataset(text.encode(), name=name)


def kernels() -> str:
    """What the bits of a forward depend on besides this project: torch, the processor, the number of threads."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(300, 384, generator=generator, dtype=torch.float32)
    weight = torch.randn(768, 384, generator=generator, dtype=torch.float32)
    product = torch.nn.functional.linear(x.bfloat16(), weight.bfloat16()).float()
    sums = torch.cat([product.flatten(), product.softmax(-1).flatten(), (x @ weight.T).flatten()])
    return f"torch {torch.__version__}, {hashlib.sha256(sums.numpy().tobytes()).hexdigest()[:16]}"


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("method", METHODS)
def test_a_fixed_job_gives_the_recorded_bytes(tmp_path: Path, method: str) -> None:
    here = kernels()
    if here not in RECORDED:
        pytest.skip(f"recorded with {', '.join(RECORDED)}; here sums round differently ({here})")
    rule = RULES.get(method, {"learning_rate": 0.01})
    profile = load_profile("cpu-demo", {**COMMON, "method": METHODS[method], "rule": rule})
    run = Run(tmp_path, load_base(), profile, rows_of(method), seed=7)
    for _ in run.records():
        pass
    found = run.finish().sha256
    run.close()
    assert found == RECORDED[here][method]
