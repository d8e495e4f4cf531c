"""Recorded forwards: the right recording, fed with the right inputs. What a GPU does with them is in tests/gpu."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from steerzo_edge.assemble import assemble, tokenized
from steerzo_edge.data.batches import batch_rows, collate
from steerzo_edge.errors import ProfileError
from steerzo_edge.model.graphs import Graphs
from steerzo_edge.objectives.likelihood import losses
from steerzo_edge.settings.profile import resolve
from steerzo_edge.zo.batched import BatchedOracle
from steerzo_edge.zo.direction import Direction
from steerzo_edge.zo.oracle import ProbeForward
from steerzo_edge.zo.strategy import Probe
from tests.conftest import DATASETS, Loader

PROBES = [Probe(Direction.seeded(seed), 0.05) for seed in range(4)]
Call = Callable[[], Tensor]


class Tape:
    """Stands in for CUDA graphs: replaying calls again what was recorded, and counts."""

    def __init__(self) -> None:
        self.recorded = 0
        self.replayed = 0

    def __call__(self, call: Call) -> Call:
        self.recorded += 1

        def replay() -> Tensor:
            self.replayed += 1
            return call()

        return replay


def test_a_shape_is_recorded_the_second_time_and_replayed_with_new_numbers() -> None:
    tape = Tape()
    graphs = Graphs(record=tape)
    call: Any = lambda given: given[0] * 2 + given[1]  # noqa: E731
    for number in range(5):
        found = graphs.run(call, (torch.full((3,), float(number)), torch.ones(3)), "double")
        assert found.tolist() == [2.0 * number + 1] * 3
    assert (tape.recorded, tape.replayed) == (1, 4)
    graphs.run(call, (torch.ones(4), torch.ones(4)), "double")
    graphs.run(call, (torch.ones(3), torch.ones(3)), "other variant")
    assert tape.recorded == 1


def test_an_answer_is_not_overwritten_by_the_next() -> None:
    graphs = Graphs(record=Tape())
    call: Any = lambda given: given[0]  # noqa: E731
    answers = [graphs.run(call, (torch.full((2,), float(n)),), 0) for n in range(4)]
    assert [answer.tolist() for answer in answers] == [[n, n] for n in (0.0, 1.0, 2.0, 3.0)]


def test_only_so_many_are_kept() -> None:
    tape = Tape()
    graphs = Graphs(most=2, record=tape)
    call: Any = lambda given: given[0]  # noqa: E731
    for size in (1, 1, 2, 2, 3, 3, 2, 1):
        graphs.run(call, (torch.ones(size),), 0)
    assert tape.recorded == 4  # 1, 2, 3, and 1 again
    graphs.clear()
    graphs.run(call, (torch.ones(2),), 0)
    assert tape.recorded == 4


@pytest.mark.parametrize("rows", DATASETS)
@pytest.mark.parametrize("last_layers", [None, 1])
def test_an_oracle_with_recordings_answers_like_one_without(
    tiny: Loader, rows: str, last_layers: int | None
) -> None:
    base = tiny("none", torch.float32)
    profile = resolve(
        {
            "subset": {"kind": "lora", "rank": 2, "last_layers": last_layers},
            "batch": {"examples": 5, "max_tokens": 64},
        }
    )
    data = tokenized(base.tokenizer, 256, profile, DATASETS[rows](), None, seed=5)
    parts = assemble(base, profile, data, seed=5)
    tape = Tape()
    graphs = Graphs(record=tape)
    recording = BatchedOracle(
        ProbeForward(base, parts.subset, parts.blocks.noise, parts.prefix, count=8, graphs=graphs)
    )
    for step in range(6):
        indices = batch_rows(5, step, len(data.train.rows), 5)
        expected = parts.oracle.evaluate(PROBES, collate(data.train, indices), parts.blocks.of(step))
        filled = collate(data.train, indices, multiple=64)
        found = recording.evaluate(PROBES, filled, parts.blocks.of(step))
        assert found == pytest.approx(expected, rel=1e-5)
        parts.subset.parameters.add_(0.01)
    assert tape.recorded <= 2
    assert tape.replayed >= 3


@pytest.mark.parametrize("rows", DATASETS)
@pytest.mark.parametrize("multiple", [2, 32, 100])
def test_filling_up_never_changes_a_loss(tiny: Loader, rows: str, multiple: int) -> None:
    base = tiny("none", torch.float32)
    data = tokenized(base.tokenizer, 256, resolve({}), DATASETS[rows](), None, seed=0).train
    plain, filled = (collate(data, list(range(12)), multiple=size) for size in (1, multiple))
    assert filled.packed.input_ids.shape[1] % multiple == 0
    assert filled.tokens == plain.tokens
    with torch.inference_mode():
        assert float(losses(base, filled)) == pytest.approx(float(losses(base, plain)), rel=1e-5)


def test_on_a_cpu_recordings_are_refused(tiny: Loader) -> None:
    base = tiny("none", torch.float32)
    profile = resolve({"batch": {"cuda_graphs": True}})
    data = tokenized(base.tokenizer, 256, profile, DATASETS["phrases"](), None, seed=0)
    with pytest.raises(ProfileError, match="needs a CUDA device"):
        assemble(base, profile, replace(data), seed=0)
