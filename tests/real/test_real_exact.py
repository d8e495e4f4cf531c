"""Exact gradients on a real pretrained model: they are autograd's, and a few steps with them lower the loss."""

from pathlib import Path

import pytest
import torch

from steerzo_edge.assemble import assemble
from steerzo_edge.data.examples import Completion, Dataset
from steerzo_edge.model.base import Base
from steerzo_edge.model.load import load_base
from steerzo_edge.records import StepRecord
from steerzo_edge.run_data import Data, tokenized
from steerzo_edge.settings.profile import Profile, resolve
from steerzo_edge.training.loop import finetune
from tests.plain import plain_loss_tensor

pytestmark = [pytest.mark.real, pytest.mark.long]
FACTS = [("red", "stop"), ("green", "go"), ("blue", "wait"), ("white", "turn")]
ROWS = Dataset(
    "completion",
    tuple(Completion(f"When the lamp is {color}, the order is to", f" {order}.") for color, order in FACTS),
    tuple(range(1, len(FACTS) + 1)),
)


def profile(**changes: object) -> Profile:
    document = {
        "subset": {"kind": "lora", "rank": 4, "last_layers": 3},
        "method": {"kind": "exact"},
        "batch": {"examples": 4, "max_tokens": 32},
        "schedule": {"kind": "constant"},
        "evaluate": {"holdout": 0},
    }
    return resolve(document, changes)


def data(base: Base) -> Data:
    return tokenized(base.tokenizer, base.context_length, profile(), ROWS, None, 0)


def test_the_gradient_is_autograds(real_base_file: Path) -> None:
    """In float32 through nf4 weights; the plain way has padding, full logits, and no cache below the top layers."""
    base = load_base(str(real_base_file), compute_dtype=torch.float32, device="cpu")
    rows = data(base)
    parts = assemble(base, profile(), rows, seed=0)
    generator = torch.Generator().manual_seed(1)
    parts.subset.parameters.add_(0.01 * torch.randn(parts.subset.parameters.shape, generator=generator))
    flat = parts.subset.parameters.clone().requires_grad_()
    with base.bank.route(parts.subset.patches(flat.unsqueeze(0))):
        loss = plain_loss_tensor(base, rows.train, range(4))
    (expected,) = torch.autograd.grad(loss, flat)
    assert parts.exact is not None
    found = parts.exact._gradients.of(0)
    assert found.loss == pytest.approx(float(loss.detach()), rel=1e-5)
    assert float((found.vector - expected).abs().max()) < 1e-4 * float(expected.abs().max())


def test_a_few_steps_learn(real_base_file: Path) -> None:
    base = load_base(str(real_base_file), device="cpu")
    parts = assemble(base, profile(**{"steps": 6, "rule.learning_rate": 0.005}), data(base), seed=0)
    losses = [record.loss for record in finetune(parts) if isinstance(record, StepRecord)]
    assert losses[0] is not None
    assert losses[-1] is not None
    assert losses[-1] < 0.8 * losses[0]
