"""What all probes of a step share is made once a step, and made again when the parameters have moved."""

from collections import Counter
from typing import Any

import pytest
import torch

from steerzo_edge.assemble import assemble
from steerzo_edge.model.base import Base
from steerzo_edge.records import StepRecord
from steerzo_edge.run_data import tokenized
from steerzo_edge.settings.profile import resolve
from steerzo_edge.training.parts import Parts
from steerzo_edge.zo.direction import Direction
from steerzo_edge.zo.entry import Entry
from steerzo_edge.zo.oracle import Round
from steerzo_edge.zo.strategy import Probe
from tests.conftest import Loader, phrase_rows

PROBES = tuple(Probe(Direction.seeded(seed), 0.05) for seed in range(5))
MOVED = Entry(StepRecord(0, 1.0, 1.0, 0.1, 0.1, 5, 5, 0.0, 0), Direction.seeded(9))


def parts_of(base: Base, **subset: Any) -> Parts:
    profile = resolve(
        {
            "subset": {"kind": "lora", "rank": 4, "last_layers": 2, **subset},
            "batch": {"examples": 4, "max_tokens": 64, "prefix_memory_mib": 0, "prefix_disk_mib": 0},
            "method": {"epsilon": 0.05},
            "rule": {"learning_rate": 0.1},
        }
    )
    return assemble(base, profile, tokenized(base.tokenizer, 256, profile, phrase_rows(), None, seed=1), seed=1)


@pytest.fixture
def base(tiny: Loader) -> Base:
    return tiny("none", torch.float32)


@pytest.fixture
def made(base: Base, monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """How often hidden states were computed, by the layer that they enter."""
    counted: Counter[int] = Counter()
    compute = type(base).hidden_at

    def counting(self: Base, layer: int, *rest: Any) -> Any:
        counted[layer] += 1
        return compute(self, layer, *rest)

    monkeypatch.setattr(type(base), "hidden_at", counting)
    return counted


def test_rounds_of_one_step_share_their_inputs(base: Base, made: Counter[int]) -> None:
    parts = parts_of(base)
    first = parts.oracle.evaluate(Round(0, 0, PROBES))
    assert parts.oracle.evaluate(Round(0, 0, PROBES[2:])) == pytest.approx(first[2:], rel=1e-5)
    assert made == {1: 1}
    parts.oracle.evaluate(Round(1, 0, PROBES))
    assert made == {1: 2}


def test_blocks_have_inputs_of_their_own(base: Base, made: Counter[int]) -> None:
    parts = parts_of(base, block_layers=1)
    for block in (1, 1, 0, 1):
        parts.oracle.evaluate(Round(0, block, PROBES))
    assert made == {1: 3, 2: 2}


def test_inputs_are_made_again_when_parameters_have_moved(base: Base, made: Counter[int]) -> None:
    parts = parts_of(base, block_layers=1)
    still = (Probe(Direction(), 0.0),)
    before = parts.oracle.evaluate(Round(0, 1, still))
    parts.subset.parameters.add_(0.1)
    # The lower block's parameters are part of what was kept: without the entry the old ones count.
    parts.oracle.follow(MOVED)
    after = parts.oracle.evaluate(Round(0, 1, still))
    fresh = parts_of(base, block_layers=1)
    fresh.subset.parameters.copy_(parts.subset.parameters)
    assert after == fresh.oracle.evaluate(Round(0, 1, still))
    assert after != before
    assert made[2] == 3
