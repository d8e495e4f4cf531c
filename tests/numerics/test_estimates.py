"""Steps, slopes, rules and saved adapters, against plain code from METHODS.md, autograd, torch.optim and peft."""

from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from torch import Tensor
from torch.func import functional_call
from transformers import AutoModelForCausalLM

from steerzo_edge.assemble import assemble
from steerzo_edge.data.batches import ChoiceBatch
from steerzo_edge.model.adapter_file import load_adapter, save_adapter
from steerzo_edge.model.base import Base
from steerzo_edge.model.subset import Copies
from steerzo_edge.objectives.likelihood import losses
from steerzo_edge.records import StepRecord
from steerzo_edge.run_data import tokenized
from steerzo_edge.seeds import derive_seed, step_seeds
from steerzo_edge.settings.profile import resolve
from steerzo_edge.training.parts import Parts
from steerzo_edge.zo.entry import Entry
from steerzo_edge.zo.replay import apply
from steerzo_edge.zo.rules import SGD, Adam, Momentum
from tests.conftest import Loader, first_estimate, labelled_rows

EPSILON, RATE, RANK, ALPHA = 1e-3, 0.05, 4, 8


def parts_of(base: Base, method: dict[str, Any], *, freeze_a: bool = True) -> Parts:
    profile = resolve(
        {
            "subset": {"kind": "lora", "rank": RANK, "alpha": ALPHA, "freeze_a": freeze_a},
            "method": {"epsilon": EPSILON, **method},
            "rule": {"kind": "sgd", "learning_rate": RATE},
            "schedule": {"kind": "constant"},
            "batch": {"examples": 6, "max_tokens": 64},
        }
    )
    data = tokenized(base.tokenizer, 256, profile, labelled_rows(), None, seed=3)
    return assemble(base, profile, data, seed=3)


def trained(parts: Parts) -> None:
    """Moves B away from zero, where half of all derivatives vanish."""
    generator = torch.Generator().manual_seed(7)
    parts.subset.parameters.add_(torch.randn(parts.blocks.noise.size, generator=generator), alpha=0.02)


def plain_loss(path: Path, base: Base, parts: Parts, batch: ChoiceBatch) -> Callable[[Tensor], float]:
    """theta -> loss with merged weights in an untouched model: no bank, no head, no slots of ours."""
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    weights = dict(model.named_parameters())
    frozen = parts.subset.frozen
    a, b = {}, {}
    rows = [torch.tensor([row.tokens]) for row in batch.packed.rows]
    for slot in parts.subset._frozen_slots:  # type: ignore[attr-defined]
        a[slot.layer] = frozen[slot.start : slot.start + slot.shape[0] * slot.shape[1]].view(slot.shape)

    def loss(theta: Tensor) -> float:
        for slot in parts.subset.slots:
            b[slot.layer] = theta[slot.start : slot.start + slot.shape[0] * slot.shape[1]].view(slot.shape)
        merged = {f"{n}.weight": weights[f"{n}.weight"] + ALPHA / RANK * (b[n] @ a[n]) for n in a}
        with torch.no_grad():
            last = [
                functional_call(model, {**weights, **merged}, kwargs={"input_ids": row}).logits[0, -1]
                for row in rows
            ]
        chosen = torch.stack(last)[:, batch.options]
        return float(torch.nn.functional.cross_entropy(chosen, batch.answers))

    return loss


def normal(seed: int, size: int) -> Tensor:
    generator = torch.Generator().manual_seed(derive_seed("noise", seed, 0))
    return torch.randn(size, generator=generator)


def mezo(loss: Callable[[Tensor], float], theta: Tensor, z: list[Tensor]) -> Tensor:
    slope = (loss(theta + EPSILON * z[0]) - loss(theta - EPSILON * z[0])) / (2 * EPSILON)
    return theta - RATE * slope * z[0]


def mezo_gv(loss: Callable[[Tensor], float], theta: Tensor, z: list[Tensor]) -> Tensor:
    pool = sorted(z[:4], key=lambda direction: loss(theta + EPSILON * direction))
    v = (pool[0] + pool[1]) / 2 - (pool[2] + pool[3]) / 2
    slope = (loss(theta + EPSILON * v) - loss(theta - EPSILON * v)) / (2 * EPSILON)
    return theta - RATE * slope * v


def mezo_greedy(loss: Callable[[Tensor], float], theta: Tensor, z: list[Tensor]) -> Tensor:
    best = min(z[:3], key=lambda direction: loss(theta + EPSILON * direction))
    slope = (loss(theta + EPSILON * best) - loss(theta - EPSILON * best)) / (2 * EPSILON)
    return theta - RATE * slope * best


def all_losses(loss: Callable[[Tensor], float], theta: Tensor, z: list[Tensor]) -> Tensor:
    values = [loss(theta + EPSILON * direction) for direction in z[:5]]
    center = sum(values) / 5
    weights = [(value - center) / EPSILON for value in values]
    return theta - RATE * sum(w * direction for w, direction in zip(weights, z[:5], strict=True)) / 4


PLAIN: dict[str, tuple[dict[str, Any], Any]] = {
    "two-point": ({"kind": "two-point"}, mezo),
    "guiding-vector": ({"kind": "guiding-vector", "pool": 4, "normalize": False}, mezo_gv),
    "greedy": ({"kind": "greedy", "pool": 3}, mezo_greedy),
    "all-losses": ({"kind": "all-losses", "pool": 5, "scaling": "none"}, all_losses),
}


@pytest.mark.parametrize("method", PLAIN)
def test_a_step_matches_plain_lines(tiny: Loader, tiny_path: Path, method: str) -> None:
    base = tiny("none", torch.float32)
    settings, plain = PLAIN[method]
    parts = parts_of(base, settings)
    trained(parts)
    batch = parts.batches(0)
    assert isinstance(batch, ChoiceBatch)
    theta = parts.subset.parameters.clone()
    z = [normal(seed, parts.blocks.noise.size) for seed in islice(step_seeds(parts.seed, 0), 5)]
    expected = plain(plain_loss(tiny_path, base, parts, batch), theta, z)

    estimate, _ = first_estimate(parts)
    record = StepRecord(0, estimate.loss, estimate.slope, RATE, EPSILON, 0, 0, 0.0, 0)
    apply(Entry(record, estimate.gradient), parts.subset, parts.rule, parts.blocks)
    # Losses agree to about 2e-7; divided by 2 epsilon = 2e-3 the slopes differ by 1e-4 of a slope near 1.
    moved = float((expected - theta).norm())
    assert float((parts.subset.parameters - expected).norm()) < 2e-3 * moved
    # Negative control: another step's seeds do not match.
    assert float((parts.subset.parameters - mezo(lambda t: 0.0, theta, z)).norm()) > 0.5 * moved


@pytest.mark.parametrize("freeze_a", [True, False])
def test_the_slope_is_the_directional_derivative(tiny: Loader, freeze_a: bool) -> None:
    base = tiny("none", torch.float32)
    parts = parts_of(base, {"kind": "two-point"}, freeze_a=freeze_a)
    trained(parts)
    batch = parts.batches(0)
    flat = parts.subset.parameters.clone().unsqueeze(0).requires_grad_()
    with base.bank.route(parts.subset.patches(flat)):
        losses(base, batch).sum().backward()
    assert flat.grad is not None
    direction = normal(next(step_seeds(parts.seed, 0)), parts.blocks.noise.size)
    exact = float(flat.grad[0] @ direction)

    estimate, _ = first_estimate(parts)
    assert abs(exact) > 0.1
    # Rounding: 2e-7 / 2e-3; curvature: epsilon squared times a third derivative along z, whose norm is sqrt(d).
    assert estimate.slope == pytest.approx(exact, rel=1e-2)


@pytest.mark.parametrize("freeze_a", [True, False])
def test_the_exported_adapter_is_the_same_in_peft(
    tiny: Loader, tiny_path: Path, tmp_path: Path, freeze_a: bool
) -> None:
    base = tiny("none", torch.float32)
    parts = parts_of(base, {"kind": "two-point"}, freeze_a=freeze_a)
    trained(parts)
    save_adapter(tmp_path / "adapter", parts.subset, base)
    ids = torch.tensor([list(range(5, 25)), list(range(105, 125))])

    plain = AutoModelForCausalLM.from_pretrained(tiny_path, dtype=torch.float32).eval()
    theirs = peft.PeftModel.from_pretrained(plain, tmp_path / "adapter").eval()
    with torch.inference_mode():
        bare = base.model(input_ids=ids).logits
        with base.bank.route(Copies(parts.subset, 1).hold()):
            ours = base.model(input_ids=ids).logits
        with base.bank.route(load_adapter(tmp_path / "adapter", base)):
            reloaded = base.model(input_ids=ids).logits
        expected = theirs(input_ids=ids).logits
    assert torch.equal(ours, reloaded)
    # The same float32 products in another order (peft adds the adapter to a finished product).
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)
    assert float((ours - bare).abs().max()) > 0.05


def test_the_exported_layers_are_the_same_in_peft(tiny: Loader, tiny_path: Path, tmp_path: Path) -> None:
    base = tiny("none", torch.float32)
    profile = resolve({"subset": {"kind": "last-n-layers", "layers": 1}})
    data = tokenized(base.tokenizer, 256, profile, labelled_rows(), None, seed=3)
    parts = assemble(base, profile, data, seed=3)
    trained(parts)
    save_adapter(tmp_path / "adapter", parts.subset, base)
    ids = torch.tensor([list(range(5, 25))])
    plain = AutoModelForCausalLM.from_pretrained(tiny_path, dtype=torch.float32).eval()
    theirs = peft.PeftModel.from_pretrained(plain, tmp_path / "adapter").eval()
    with torch.inference_mode():
        bare = base.model(input_ids=ids).logits
        with base.bank.route(load_adapter(tmp_path / "adapter", base)):
            ours = base.model(input_ids=ids).logits
        expected = theirs(input_ids=ids).logits
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)
    assert float((ours - bare).abs().max()) > 0.05


RULES: dict[str, tuple[Callable[[int], Any], Callable[[list[Tensor]], torch.optim.Optimizer]]] = {
    "sgd": (lambda size: SGD(), lambda p: torch.optim.SGD(p, lr=0.1)),
    "momentum": (
        lambda size: Momentum(size, beta=0.9),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    ),
    "adam": (
        lambda size: Adam(size, beta1=0.8, beta2=0.95),
        lambda p: torch.optim.Adam(p, lr=0.1, betas=(0.8, 0.95)),
    ),
}


@pytest.mark.parametrize("rule", RULES)
def test_rules_agree_with_torch(rule: str) -> None:
    ours, theirs = RULES[rule][0](50), torch.nn.Parameter(torch.zeros(50))
    optimizer = RULES[rule][1]([theirs])
    parameters = torch.zeros(50)
    generator = torch.Generator().manual_seed(2)
    for _ in range(10):
        gradient = torch.randn(50, generator=generator)
        ours.step(parameters, [(slice(0, 20), gradient[:20]), (slice(20, 50), gradient[20:])], 0.1)
        theirs.grad = gradient.clone()
        optimizer.step()
    torch.testing.assert_close(parameters, theirs.detach(), rtol=1e-5, atol=1e-6)
