"""A hybrid step: its exact part is autograd's gradient, its estimate that of the forward-only engine."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from steerzo_edge.assemble import _parts, assemble
from steerzo_edge.data.tokenization import Tokenized
from steerzo_edge.model.base import Base
from steerzo_edge.model.load import load_base
from steerzo_edge.model.quantization import Quantization
from steerzo_edge.run_data import Data, tokenized
from steerzo_edge.seeds import step_seeds
from steerzo_edge.settings.profile import resolve
from steerzo_edge.training.exact import ADAM_RATE
from steerzo_edge.training.hybrid_steps import exact_step
from steerzo_edge.training.moving import move
from steerzo_edge.training.parts import Parts
from steerzo_edge.training.progress import Progress
from steerzo_edge.zo.direction import Direction
from steerzo_edge.zo.entry import Entry
from steerzo_edge.zo.oracle import Round, converse
from steerzo_edge.zo.strategy import Probe
from tests.conftest import DATASETS, Loader
from tests.contracts.test_same_gradients import ROWS, TOLERANCE, plain_gradient
from tests.families import FAMILIES, saved, seeded

SUBSETS: dict[str, dict[str, Any]] = {
    "both-factors": {"kind": "lora", "rank": 3, "freeze_a": False},
    "top-two-layers": {"kind": "lora", "rank": 4, "last_layers": 2},
    "lora-xs": {"kind": "lora-xs", "rank": 5},
    "whole-top-layers": {"kind": "last-n-layers", "layers": 2},
}
ESTIMATORS: dict[str, dict[str, Any]] = {
    "two-point": {"kind": "two-point"},
    "all-losses": {"kind": "all-losses", "pool": 4, "scaling": "none"},
    "guiding-vector": {"kind": "guiding-vector", "pool": 4},
}
EPSILON = 1e-4
# A slope from two losses is wrong by their rounding (1e-7 of 1 to 5 nats, over 2e-4), and by the curvature: steps
# of 1e-3 along standard normal directions change the slopes of these small random models by 2 to 3 %.
SLOPE = 0.02


def built(
    base: Base, rows: str, subset: str, layers: int = 1, estimator: str = "two-point", **settings: object
) -> tuple[Parts, Tokenized]:
    method = {"kind": "hybrid", "exact_layers": layers, "learning_rate": 0.05}
    method["estimator"] = {**ESTIMATORS[estimator], "epsilon": EPSILON}
    profile = resolve(
        {"subset": SUBSETS[subset], "method": method, "batch": {"examples": ROWS, "max_tokens": 64}, **settings}
    )
    data = tokenized(base.tokenizer, base.context_length, profile, DATASETS[rows](), None, seed=5).train
    parts = assemble(base, profile, Data(data, None), seed=5)
    parameters = parts.subset.parameters  # away from B = 0, where A has no gradient
    parameters.add_(0.03 * torch.randn(parameters.shape, generator=seeded(3)))
    return parts, data


def after_first(parts: Parts) -> tuple[Entry, Tensor, Tensor]:
    """The entry of step 1, the exact part of its gradient, and where the parameters were."""
    entry = exact_step(parts, Progress(step=1), EPSILON, 0.05, lambda: 0.0)
    assert parts.exact is not None
    latest = parts.exact._latest
    assert latest is not None
    return entry, latest[1].vector.clone(), parts.subset.parameters.clone()


def compare(base: Base, parts: Parts, data: Tokenized) -> None:
    loss, expected = plain_gradient(base, parts, data)
    entry, found, start = after_first(parts)
    lower = parts.blocks.blocks[0].span
    assert 0 < lower.stop == len(expected) - len(found)
    own = expected[lower.stop :]
    assert entry.record.loss == pytest.approx(loss, abs=2e-5)  # type: ignore[union-attr]
    assert float((found - own).abs().max()) < TOLERANCE * float(own.abs().max())

    # What the forward-only engine makes of the same seeds, in the same block.
    parts.oracle.follow(entry)
    dialogue = parts.strategy(EPSILON).propose(step_seeds(parts.seed, 1), {})
    estimate, _ = converse(dialogue, parts.oracle, 1, 0)
    mine, theirs = dict(entry.gradient.terms), dict(estimate.gradient.terms)
    assert list(mine) == list(theirs)
    noise = torch.cat([Direction(((seed, 1.0),)).materialize(parts.blocks.noise, 0) for seed in mine])
    size = float(expected[lower].norm()) + abs(estimate.slope) / lower.stop**0.5
    ratio = 0.05 / ADAM_RATE
    for seed in mine:
        assert mine[seed] / ratio == pytest.approx(theirs[seed], rel=SLOPE, abs=SLOPE * size)

    # The slope of a pair is the true gradient's along its direction.
    if len(mine) == 1:
        ((_, weight),) = mine.items()
        assert weight / ratio == pytest.approx(float(expected[lower] @ noise), rel=SLOPE, abs=SLOPE * size)

    move(entry, parts)
    moved = parts.subset.parameters - start
    aim = -entry.record.learning_rate * entry.gradient.materialize(parts.blocks.noise, 0)  # type: ignore[union-attr]
    assert torch.allclose(moved[lower], aim, rtol=1e-4, atol=1e-6)
    assert float(moved[lower.stop :].abs().max()) > 0


@pytest.mark.parametrize("rows", DATASETS)
@pytest.mark.parametrize(("subset", "layers"), [("both-factors", 1), ("both-factors", 2), ("top-two-layers", 1)])
def test_both_parts_are_those_of_the_plain_way(tiny: Loader, subset: str, layers: int, rows: str) -> None:
    base = tiny("none", torch.float32)
    compare(base, *built(base, rows, subset, layers))


@pytest.mark.parametrize("subset", ["lora-xs", "whole-top-layers"])
@pytest.mark.parametrize("estimator", ["all-losses", "guiding-vector"])
def test_with_any_estimator(tiny: Loader, subset: str, estimator: str) -> None:
    base = tiny("none", torch.float32)
    compare(base, *built(base, "phrases", subset, 1, estimator))


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_through_quantized_layers(tiny: Loader, quantization: Quantization) -> None:
    base = tiny(quantization, torch.float32)
    compare(base, *built(base, "completion", "both-factors"))


@pytest.mark.parametrize("quantization", ["none", "nf4"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family(tmp_path: Path, family: str, quantization: Quantization) -> None:
    path = str(saved(FAMILIES[family], tmp_path))
    base = load_base(path, quantization=quantization, compute_dtype=torch.float32, device="cpu")
    compare(base, *built(base, "phrases", "both-factors"))


def test_a_batch_in_parts_has_the_losses_of_the_whole(tiny: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tiny("none", torch.float32)
    found = []
    for most in (10**9, 40):
        monkeypatch.setattr(
            "steerzo_edge.assemble._parts", lambda base, data, _, batch, most=most: _parts(base, data, most, batch)
        )
        parts, _ = built(base, "completion", "both-factors")
        entry, _, _ = after_first(parts)
        found.append(entry)
    assert dict(found[0].gradient.terms) == pytest.approx(dict(found[1].gradient.terms), rel=1e-3)


def test_probes_in_one_forward_have_the_losses_of_each_alone(tiny: Loader) -> None:
    base = tiny("none", torch.float32)
    losses = []
    for count in (1, 3):
        parts, _ = built(base, "phrases", "both-factors", memory="fast")
        assert parts.exact is not None
        assert parts.below is not None
        parts.oracle._forward._count = count  # type: ignore[attr-defined]
        parts.exact.step(Progress(step=1), 0.1, lambda: 0.0)
        probes = tuple(Probe(Direction.seeded(seed), EPSILON) for seed in range(3))
        with parts.below.loss.along(parts.exact.take_tangents()):
            losses.append(parts.oracle.evaluate(Round(1, 0, probes)))
    assert losses[0] == pytest.approx(losses[1], abs=1e-7)
    assert max(losses[0]) - min(losses[0]) > 1e-6


def test_the_comparison_notices_a_wrong_gradient(tiny: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tiny("none", torch.float32)
    parts, data = built(base, "phrases", "both-factors")
    assert parts.exact is not None
    plain = parts.exact.take_tangents

    def wrong() -> Any:
        return tuple(replace(tangent, gradient=tangent.gradient.flip(0)) for tangent in plain())

    monkeypatch.setattr(parts.exact, "take_tangents", wrong)
    with pytest.raises(AssertionError):
        compare(base, parts, data)


def test_probes_end_below_the_exact_layers(tiny: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tiny("none", torch.float32)
    parts, _ = built(base, "completion", "both-factors", 2)
    assert parts.exact is not None
    assert parts.below is not None
    parts.exact.step(Progress(step=1), 0.1, lambda: 0.0)
    run: list[int] = []
    monkeypatch.setattr(base.bank, "preemption_hook", lambda: run.append(1))
    with parts.below.loss.along(parts.exact.take_tangents()):
        parts.oracle.evaluate(Round(1, 0, (Probe(Direction.seeded(1), EPSILON),)))
    monkeypatch.undo()
    assert len(run) == 1 + len(base.bank.layers) / 3  # one for the noise, and one for each linear layer of layer 0
