"""Exact gradients are those that autograd takes of the plain loss: padded rows, full logits."""

from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from steerzo_edge.assemble import _parts, assemble
from steerzo_edge.data.batches import batch_rows
from steerzo_edge.data.tokenization import Tokenized
from steerzo_edge.model.base import Base
from steerzo_edge.model.load import load_base
from steerzo_edge.model.quantization import Quantization
from steerzo_edge.run_data import Data, tokenized
from steerzo_edge.settings.profile import resolve
from steerzo_edge.training.gradients import ExactGradients, StepGradient
from steerzo_edge.training.parts import Parts
from tests.conftest import DATASETS, Loader
from tests.families import FAMILIES, saved, seeded
from tests.plain import plain_loss_tensor

SUBSETS: dict[str, dict[str, Any]] = {
    "both-factors": {"kind": "lora", "rank": 3, "freeze_a": False},
    "top-two-layers": {"kind": "lora", "rank": 4, "last_layers": 2},
    "some-targets": {"kind": "lora", "rank": 4, "freeze_a": False, "targets": ["q_proj", "down_proj"]},
    "input-subspace": {"kind": "lora", "rank": 3, "init_a": "input-subspace"},
    "lora-xs": {"kind": "lora-xs", "rank": 5},
    "whole-top-layer": {"kind": "last-n-layers", "layers": 1},
}
# Float32 sums in another order, as in the losses' comparison; of the largest number of the gradient. A gradient on
# the wrong rows or layers is off by its own size.
TOLERANCE = 3e-5
ROWS = 5


def built(base: Base, rows: str, subset: dict[str, Any], option_mass: float = 0.0) -> tuple[Parts, Tokenized]:
    profile = resolve(
        {
            "subset": subset,
            "method": {"kind": "exact"},
            "objective": {"option_mass": option_mass},
            "batch": {"examples": ROWS, "max_tokens": 64},
        }
    )
    data = tokenized(base.tokenizer, base.context_length, profile, DATASETS[rows](), None, seed=5).train
    parts = assemble(base, profile, Data(data, None), seed=5)
    parameters = parts.subset.parameters  # away from B = 0, where A has no gradient
    parameters.add_(0.03 * torch.randn(parameters.shape, generator=seeded(3)))
    return parts, data


def gradients(
    base: Base, parts: Parts, data: Tokenized, *, kept: int = 0, most: int = 10**9, option_mass: float = 0.0
) -> StepGradient:
    objective = resolve({"objective": {"option_mass": option_mass}}).objective.build(data)
    found = ExactGradients(
        base,
        parts.subset,
        parts.batches,
        parts.prefix,
        objective=objective,
        parts=partial(_parts, base, data, most),
        kept_layers=kept,
    ).of(1)
    return StepGradient(found.loss, found.norm, found.vector.clone())


def plain_gradient(base: Base, parts: Parts, data: Tokenized, option_mass: float = 0.0) -> tuple[float, Tensor]:
    flat = parts.subset.parameters.clone().requires_grad_()
    with base.bank.route(parts.subset.patches(flat.unsqueeze(0))):
        loss = plain_loss_tensor(base, data, batch_rows(5, 1, len(data.rows), ROWS), option_mass)
    return float(loss.detach()), torch.autograd.grad(loss, flat)[0]


def compare(base: Base, parts: Parts, data: Tokenized, option_mass: float = 0.0) -> None:
    loss, expected = plain_gradient(base, parts, data, option_mass)
    found = gradients(base, parts, data, option_mass=option_mass)
    assert found.loss == pytest.approx(loss, abs=2e-5)
    assert float((found.vector - expected).abs().max()) < TOLERANCE * float(expected.abs().max())
    assert found.norm == pytest.approx(float(expected.norm()), rel=1e-4)


@pytest.mark.parametrize("rows", DATASETS)
@pytest.mark.parametrize("subset", SUBSETS)
def test_the_gradient_is_that_of_the_plain_way(tiny: Loader, subset: str, rows: str) -> None:
    base = tiny("none", torch.float32)
    compare(base, *built(base, rows, SUBSETS[subset]))


@pytest.mark.parametrize("rows", DATASETS)
@pytest.mark.parametrize("quantization", ["nf4", "fp4", "int8"])
def test_through_quantized_layers(tiny: Loader, quantization: Quantization, rows: str) -> None:
    base = tiny(quantization, torch.float32)
    compare(base, *built(base, rows, SUBSETS["both-factors"]))


@pytest.mark.parametrize("rows", ["single-token", "phrases"])
def test_the_options_common_probability(tiny: Loader, rows: str) -> None:
    base = tiny("none", torch.float32)
    compare(base, *built(base, rows, SUBSETS["top-two-layers"], 0.4), option_mass=0.4)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family(tmp_path: Path, family: str) -> None:
    path = str(saved(FAMILIES[family], tmp_path))
    base = load_base(path, quantization="none", compute_dtype=torch.float32, device="cpu")
    for subset, rows in product(("both-factors", "lora-xs", "whole-top-layer"), DATASETS):
        compare(base, *built(base, rows, SUBSETS[subset]))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_in_four_bits(tmp_path: Path, family: str) -> None:
    path = str(saved(FAMILIES[family], tmp_path))
    base = load_base(path, quantization="nf4", compute_dtype=torch.float32, device="cpu")
    compare(base, *built(base, "phrases", SUBSETS["both-factors"]))


@pytest.mark.parametrize(("queries", "score_bytes", "group_cost"), [(7, 1, 0), (16, 4000, 10**9), (1, 1 << 20, 50)])
@pytest.mark.parametrize("rows", ["phrases", "completion"])
def test_however_attention_and_the_head_are_cut(
    tiny: Loader, monkeypatch: pytest.MonkeyPatch, rows: str, queries: int, score_bytes: int, group_cost: int
) -> None:
    monkeypatch.setattr("steerzo_edge.model.attention.QUERIES", queries)
    monkeypatch.setattr("steerzo_edge.model.attention.SCORE_BYTES", score_bytes)
    monkeypatch.setattr("steerzo_edge.data.packing.GROUP_COST", group_cost)
    base = tiny("none", torch.float32)
    monkeypatch.setattr(base.head, "block_bytes", 40_000)  # several blocks of the vocabulary, and of places
    assert base.head._columns < len(base.head._weight)
    compare(base, *built(base, rows, SUBSETS["both-factors"]))


@pytest.mark.parametrize("rows", DATASETS)
def test_layers_that_run_twice_give_the_same_bits(tiny: Loader, rows: str) -> None:
    base = tiny("nf4", torch.bfloat16)
    parts, data = built(base, rows, SUBSETS["both-factors"])
    once, partly, twice = (gradients(base, parts, data, kept=kept) for kept in (3, 1, 0))
    assert float(once.norm) > 0
    assert torch.equal(once.vector, twice.vector)
    assert torch.equal(once.vector, partly.vector)
    assert once.loss == twice.loss


@pytest.mark.parametrize("rows", DATASETS)
def test_a_batch_in_parts_has_the_gradient_of_the_whole(tiny: Loader, rows: str) -> None:
    base = tiny("none", torch.float32)
    parts, data = built(base, rows, SUBSETS["both-factors"])
    assert len(_parts(base, data, 40, parts.batches(1))) > 1
    whole, cut = gradients(base, parts, data), gradients(base, parts, data, most=40)
    assert float((cut.vector - whole.vector).abs().max()) < TOLERANCE * float(whole.vector.abs().max())
    assert cut.loss == pytest.approx(whole.loss, abs=2e-5)


def test_the_parameters_are_not_touched_also_after_an_error(tiny: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tiny("nf4", torch.bfloat16)
    parts, data = built(base, "phrases", SUBSETS["both-factors"])
    start = parts.subset.parameters.clone()
    expected = gradients(base, parts, data)
    assert torch.equal(parts.subset.parameters, start)

    calls = 0

    def fail() -> None:
        nonlocal calls
        calls += 1
        if calls == 30:  # in the backward pass: a forward has 21 linear layers
            raise RuntimeError("broken on purpose")

    monkeypatch.setattr(base.bank, "preemption_hook", fail)
    with pytest.raises(RuntimeError, match="on purpose"):
        gradients(base, parts, data)
    monkeypatch.undo()
    assert not base.bank.is_batch_pass
    assert torch.equal(parts.subset.parameters, start)
    assert torch.equal(gradients(base, parts, data).vector, expected.vector)


def test_the_comparison_notices_a_wrong_batch(tiny: Loader) -> None:
    base = tiny("none", torch.float32)
    parts, data = built(base, "completion", SUBSETS["lora-xs"])
    _, expected = plain_gradient(base, parts, data)
    other = ExactGradients(
        base, parts.subset, lambda step: parts.batches(step + 1), None,
        objective=resolve({}).objective.build(data), parts=lambda batch: [batch], kept_layers=0,
    ).of(1)  # fmt: skip
    assert float((other.vector - expected).abs().max()) > 0.05 * float(expected.abs().max())
