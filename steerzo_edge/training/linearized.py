"""The loss as the layers below see it, with the layers above replaced by their exact first-order term.

    theta    parameters of the trained layers below layer c; those from c on have exact gradients
    h        hidden states that enter layer c,   g = dL/dh at the present parameters, from the backward pass

    L(theta + e)  ~  L(theta) + <g, h(theta + e) - h(theta)>

The backward pass through the layers from c on ends with g, so a probe runs the layers below c only, and keeps no
logits. Its slope is that of the true loss: what is left out is of second order in the probe radius, as is what a
slope from two losses is wrong by anyway. (ElasticZO, arXiv:2501.04287, runs whole forwards instead.)

Cost of a step with K probes: a forward of all layers, a backward pass of those from c on, K forwards of the others.
Memory: first the backward pass of the layers from c on; then, with their tensors freed, g (one number for each
token and each unit of the residual stream) and inference on K batches in the layers below.

Inner products are summed in float64, token by token in one order: losses of probes differ by about 1e-3.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from steerzo_edge.data.batches import Batch
from steerzo_edge.model.base import Base, HiddenStates
from steerzo_edge.objectives.objective import Objective

_TOKENS = 256  # that are turned to float64 together


@dataclass(frozen=True, slots=True)
class Tangent:
    """The loss of some rows as a linear function of the hidden states that enter a layer.

    Args:
        rows: Their indices.
        layer: The layer, from 0.
        loss: At the present parameters, in nats.
        gradient: (S, D), of that loss.
        level: The inner product of `gradient` and the hidden states at the present parameters.
    """

    rows: tuple[int, ...]
    layer: int
    loss: float
    gradient: Tensor
    level: float

    @classmethod
    def at(cls, rows: Sequence[int], states: HiddenStates, loss: float, gradient: Tensor) -> "Tangent":
        """The function whose value is `loss`, and whose gradient is `gradient`, at some hidden states."""
        (level,) = _products(states.states, gradient)
        return cls(tuple(rows), states.layer, loss, gradient, level)

    def losses(self, states: Tensor) -> Tensor:
        """The values at hidden states of K versions.

        Args:
            states: (K, S, D).

        Returns:
            (K,) float64, on the CPU.
        """
        found = [self.loss + (product - self.level) for product in _products(states, self.gradient)]
        return torch.tensor(found, dtype=torch.float64)


class Linearized:
    """An objective that is replaced by tangents while it has them; see `Objective`.

    Args:
        objective: The whole objective.
    """

    def __init__(self, objective: Objective) -> None:
        self._objective = objective
        self._tangents: dict[tuple[int, ...], Tangent] = {}

    @contextmanager
    def along(self, tangents: Sequence[Tangent]) -> Iterator[None]:
        """Inside the block losses are those of the tangents.

        Args:
            tangents: One for each part of the batch that probes are measured on.
        """
        self._tangents = {tangent.rows: tangent for tangent in tangents}
        try:
            yield
        finally:
            self._tangents = {}

    def __call__(self, base: Base, batch: Batch, copies: int, hidden_states: HiddenStates | None, /) -> Tensor:
        """See `Objective`; along tangents the losses are float64 numbers on the CPU."""
        if not self._tangents:
            return self._objective(base, batch, copies, hidden_states)
        tangent = self._tangents[tuple(batch.indices)]
        return tangent.losses(base.hidden_at(tangent.layer, batch.packed, hidden_states, copies).states)


def _products(states: Tensor, gradient: Tensor) -> list[float]:
    """The inner product of (S, D) numbers with each of K such: (K, S, D)."""
    found = []
    for version in states:
        total = torch.zeros((), dtype=torch.float64, device=states.device)
        for mine, other in zip(version.split(_TOKENS), gradient.split(_TOKENS), strict=True):
            total += torch.dot(mine.double().flatten(), other.double().flatten())
        found.append(total)
    return [float(value) for value in torch.stack(found).tolist()]
