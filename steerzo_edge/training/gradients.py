"""Exact gradients of a step's batch, by back-propagation through the frozen base into the trained matrices.

The forward is the engine's own: packed rows, prompts that options share, logits of options or of targets only, and
hidden states below the lowest trained layer from the cache. Of the layers above, the inputs are kept, and the whole
graph for the topmost `kept_layers` only (see `model/tape.py`). Where memory is short, the rows of a batch go
through in parts, and the gradients of the parts are added up in float32.

Cost: a forward and a backward pass, and one more forward of the layers that are not kept. A gradient is a function
of parameters, batch and plan, bit for bit, on one machine with one number of threads: sums have a fixed order.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from steerzo_edge.data.batches import Batch
from steerzo_edge.errors import CapacityError
from steerzo_edge.model.base import Base, HiddenStates
from steerzo_edge.model.layers import layer_count
from steerzo_edge.model.leaves import Leaves
from steerzo_edge.model.prefix import PrefixStore
from steerzo_edge.model.subset import Subset
from steerzo_edge.model.tape import Tape
from steerzo_edge.objectives.objective import Objective


@dataclass(frozen=True, slots=True)
class StepGradient:
    """The gradient of a step's batch loss at the master copy.

    Args:
        loss: Of the batch, in nats.
        norm: Of the gradient.
        vector: (d,) float32. The next gradient is written into the same memory.
    """

    loss: float
    norm: float
    vector: Tensor

    @property
    def finite(self) -> bool:
        """Whether loss and gradient are finite."""
        return math.isfinite(self.loss) and math.isfinite(self.norm)


class ExactGradients:
    """Computes gradients at the master copy, which is read, never written.

    Args:
        base: The frozen model.
        subset: Holds the parameters.
        batches: The batch of a step, a pure function of its index.
        prefix: Hidden states that enter the lowest trained layer, if that is above the first.
        objective: A loss that has a gradient: a mean over rows.
        parts: Cuts a batch into the rows that go through the model together.
        kept_layers: How many of the topmost layers keep what autograd saves of them.
    """

    def __init__(
        self,
        base: Base,
        subset: Subset,
        batches: Callable[[int], Batch],
        prefix: PrefixStore | None,
        *,
        objective: Objective,
        parts: Callable[[Batch], Sequence[Batch]],
        kept_layers: int,
    ) -> None:
        self._base = base
        self._leaves = Leaves(subset)
        self._batches = batches
        self._prefix = prefix
        self._objective = objective
        self._parts = parts
        self._keep_from = layer_count(base.model.config) - kept_layers

    def of(self, step: int) -> StepGradient:
        """The gradient of a step's batch at the present parameters.

        Args:
            step: From 0.

        Raises:
            CapacityError: If memory does not suffice with all layers recomputed.
        """
        try:
            return self._computed(step)
        except torch.OutOfMemoryError as error:
            layers = layer_count(self._base.model.config)
            if self._keep_from == layers:
                raise CapacityError("a batch's gradient does not fit into the device's memory") from error
            self._keep_from = layers
        torch.cuda.empty_cache()
        return self.of(step)

    def _computed(self, step: int) -> StepGradient:
        with torch.inference_mode(mode=False), torch.no_grad():
            batch = self._batches(step)
            self._leaves.write()
            loss = 0.0
            with self._base.bank.route(self._leaves.patches):
                for part in self._parts(batch):
                    share = len(part.indices) / len(batch.indices)
                    loss += share * self._add(part, share)
            gradient = self._leaves.gradient
            return StepGradient(loss, float(gradient.norm()), gradient)

    def _add(self, rows: Batch, share: float) -> float:
        """Adds the gradient of some rows' mean loss times their share of the batch; returns that loss."""
        tape = Tape(self._leaves, self._keep_from)
        states = self._states(rows)
        with torch.enable_grad(), self._base.recorded(tape):
            (loss,) = self._objective(self._base, rows, 1, states)
            (gradient,) = torch.autograd.grad(loss, tape.result, torch.full_like(loss, share))
        self._base.pull_back(rows.packed, tape, gradient)
        return float(loss.detach())

    def _states(self, rows: Batch) -> HiddenStates | None:
        if self._prefix is None:
            return None
        found = self._prefix.of(rows.packed)
        # Autograd takes no tensors that were made in inference mode.
        return HiddenStates(found.layer, found.states.clone()) if found.states.is_inference() else found
