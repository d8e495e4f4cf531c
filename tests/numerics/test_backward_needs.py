"""Estimated bytes of exact gradients against what autograd keeps in the engine's own backward pass."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from steerzo_edge.assemble import assemble
from steerzo_edge.estimate import Plan, anatomy, trained_by, work_of
from steerzo_edge.estimate.backward import _backward_phase
from steerzo_edge.model.head import BLOCK_BYTES
from steerzo_edge.model.load import load_base
from steerzo_edge.run_data import Data, tokenized
from steerzo_edge.settings.profile import Profile, resolve
from steerzo_edge.training.gradients import ExactGradients
from tests.conftest import completion_rows
from tests.families import FAMILIES, saved

ROWS = 12


def profile_of(freeze_a: bool, last: int, exact: int | None = None) -> Profile:
    return resolve(
        {
            "model": {"quantization": "none"},
            "subset": {"kind": "lora", "rank": 4, "freeze_a": freeze_a, "last_layers": last},
            "method": {"kind": "exact"} if exact is None else {"kind": "hybrid", "exact_layers": exact},
            "batch": {"examples": ROWS, "max_tokens": 64},
        }
    )


@pytest.mark.parametrize(("last", "exact"), [(3, None), (2, None), (3, 2)])
@pytest.mark.parametrize("freeze_a", [True, False], ids=["frozen-a", "trained-a"])
@pytest.mark.parametrize("family", ["llama", "qwen3", "phi3", "opt-learned-positions"])
def test_saved_activations_are_those_that_autograd_keeps(
    tmp_path: Path, family: str, freeze_a: bool, last: int, exact: int | None
) -> None:
    path = str(saved(FAMILIES[family], tmp_path))
    base = load_base(path, quantization="none", compute_dtype=torch.bfloat16, device="cpu")
    profile, kept_layers = profile_of(freeze_a, last, exact), exact or last
    data = tokenized(base.tokenizer, base.context_length, profile, completion_rows(), None, 0).train
    parts = assemble(base, profile, Data(data, None), seed=0)
    gradients = ExactGradients(
        base, parts.subset, parts.batches, None,
        objective=profile.objective.build(data), parts=lambda batch: [batch],
        kept_layers=kept_layers, first_layer=3 - kept_layers,
    )  # fmt: skip
    fixed = [*base.model.parameters(), *base.model.buffers(), gradients._leaves._flat, parts.subset._compute_frozen]  # type: ignore[attr-defined]
    resting = {tensor.untyped_storage().data_ptr() for tensor in fixed}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.is_floating_point() and tensor.untyped_storage().data_ptr() not in resting:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        assert gradients.of(0).finite
    batch = parts.batches(0)
    body = anatomy(base.model.config)
    plan = Plan(1, 10**9, 10**9, 0, 0, BLOCK_BYTES, frugal=True, kept_layers=kept_layers)
    work = work_of(profile, base.context_length, data)
    needs = _backward_phase(body, trained_by(profile, body), work, plan, 2, "cpu")
    expected = needs["saved activations"] * batch.tokens / work.tokens
    # The hooks also see the final norm, the head's inputs and norms' roots, which weigh much in a small model, and
    # the whole results of Phi 3's joined projections. Measured: the estimate is up to 27 % below, and never above.
    assert expected == pytest.approx(sum(tensor.untyped_storage().nbytes() for tensor in kept.values()), rel=0.28)
