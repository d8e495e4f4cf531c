"""What must hold on a GPU. Skipped without one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from steerzo_edge.assemble import assemble
from steerzo_edge.model.base import Base
from steerzo_edge.model.load import load_base
from steerzo_edge.run_data import Data, tokenized
from steerzo_edge.settings.profile import resolve
from steerzo_edge.training.loop import finetune
from steerzo_edge.training.parts import Parts
from steerzo_edge.zo.direction import Direction
from steerzo_edge.zo.entry import Entry
from steerzo_edge.zo.oracle import Round
from steerzo_edge.zo.replay import replay
from steerzo_edge.zo.strategy import Probe
from tests.conftest import DATASETS

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
PROBES = [Probe(Direction.seeded(seed), 0.05 * (-1) ** seed) for seed in range(5)]
Load = Callable[..., Base]


@pytest.fixture(scope="module")
def load(tiny_path: Path) -> Load:
    def loaded(quantization: Any, dtype: torch.dtype, device: str = "cuda") -> Base:
        return load_base(str(tiny_path), quantization=quantization, compute_dtype=dtype, device=device)

    return loaded


def parts_of(base: Base, rows: str, subset: dict[str, Any] | None = None, **batch: Any) -> Parts:
    profile = resolve(
        {
            "subset": {"kind": "lora", "rank": 4, **(subset or {})},
            "method": {"kind": "all-losses", "pool": 5, "epsilon": 0.05},
            "rule": {"kind": "momentum", "learning_rate": 0.02},
            "batch": {"examples": 5, "max_tokens": 64, **batch},
            "steps": 12,
        }
    )
    data = tokenized(base.tokenizer, base.context_length, profile, DATASETS[rows](), None, seed=5).train
    return assemble(base, profile, Data(data, None), seed=5)


def answers(parts: Parts, step: int = 1) -> list[float]:
    return parts.oracle.evaluate(Round(step, parts.blocks.of(step).index, tuple(PROBES)))


@pytest.mark.parametrize("rows", DATASETS)
@pytest.mark.parametrize("quantization", ["nf4", "int8", "none"])
def test_stacked_probes_equal_sequential_ones(load: Load, rows: str, quantization: str) -> None:
    base = load(quantization, torch.bfloat16)
    stacked = answers(parts_of(base, rows, probes_per_forward=8))
    # Kernels differ with the number of rows: a few roundings of bf16, averaged over the batch.
    assert stacked == pytest.approx(answers(parts_of(base, rows, probes_per_forward=1)), rel=5e-3)


@pytest.mark.parametrize("rows", DATASETS)
def test_a_gpu_answers_like_a_cpu(load: Load, rows: str) -> None:
    """The same unperturbed parameters: z is another one there, so the probes are at radius 0."""
    still = [Probe(Direction.seeded(1), 0.0)]
    found = []
    for device in ("cuda", "cpu"):
        parts = parts_of(load("none", torch.float32, device), rows)
        found.append(parts.oracle.evaluate(Round(0, parts.blocks.of(0).index, tuple(still))))
    assert found[0] == pytest.approx(found[1], rel=1e-4)


def test_a_journal_gives_the_same_bytes_again(load: Load) -> None:
    base = load("nf4", torch.bfloat16)
    parts, again = (parts_of(base, "single-token") for _ in range(2))
    entries: list[Entry] = []
    for _ in finetune(parts, journal=entries.append):
        pass
    replay(entries, again.subset, again.rule, again.blocks)
    assert torch.equal(parts.subset.parameters, again.subset.parameters)


def test_sequential_probes_need_the_memory_of_inference() -> None:
    from benchmarks.shapes import random_base
    from steerzo_edge.model.subset import Copies
    from steerzo_edge.objectives.likelihood import losses

    base = random_base("small", torch.device("cuda"))
    parts = parts_of(base, "single-token", probes_per_forward=1)
    batch = parts.batches(0)
    serving = Copies(parts.subset, 1)

    def inference() -> None:
        with torch.inference_mode(), base.bank.route(serving.hold()):
            losses(base, batch)

    peaks = []
    steps = finetune(parts)
    for call in (inference, lambda: next(steps)):
        call()
        torch.cuda.reset_peak_memory_stats()
        call()
        peaks.append(torch.cuda.max_memory_allocated())
    assert peaks[1] <= 1.10 * peaks[0]
