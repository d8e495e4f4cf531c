"""Trains with exact gradients (back-propagation) and Adam: the best that a subset and its batches allow."""

from typing import Any

import torch

from benchmarks.learning import POINTS, Bed, settings_of
from steerzo_edge.objectives.likelihood import losses

SETTINGS = settings_of({"kind": "two-point"}, 1e-3, 1e-2)


def exact(bed: Bed, rate: float, steps: int, seed: int) -> dict[str, Any]:
    """A run with exact gradients.

    Args:
        bed: Dataset and base.
        rate: Of Adam, constant.
        steps: How many; each is a forward and a backward pass.
        seed: Of batches and adapter.

    Returns:
        As `learn`; forwards are steps here.
    """
    parts = bed.parts(SETTINGS, steps, seed)
    flat = parts.subset.parameters.clone().requires_grad_()
    rule = torch.optim.Adam([flat], lr=rate)
    curve = []
    for step in range(steps + 1):
        if step % max(1, steps // POINTS) == 0 or step == steps:
            parts.subset.parameters.copy_(flat.detach())
            assert parts.evaluate is not None
            found = parts.evaluate()
            curve.append((step, step, found.loss, found.accuracy))
        if step == steps:
            break
        batch = parts.batches(step)
        hidden_states = None if parts.prefix is None else parts.prefix.of(batch.packed)
        copies = flat.to(parts.subset.compute_dtype).unsqueeze(0)
        with bed.base.bank.route(parts.subset.patches(copies)):
            loss = losses(bed.base, batch, 1, hidden_states).sum()
            rule.zero_grad()
            torch.autograd.backward(loss)
        rule.step()
    tested = bed.tested(parts)
    return {
        "curve": curve,
        "loss": curve[-1][2],
        "accuracy": curve[-1][3],
        "test": {"loss": tested.loss, "accuracy": tested.accuracy},
        "forwards": steps,
        "found": {},
        "messages": [],
    }
