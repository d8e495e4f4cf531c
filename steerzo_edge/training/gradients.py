"""Exact gradients of a step's batch, by back-propagation through the frozen base into the trained matrices.

Of all trained layers, or of the topmost ones: then the backward pass ends there, and with it what it needs.

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
from steerzo_edge.model.subset import Copies, Subset
from steerzo_edge.model.tape import Tape
from steerzo_edge.objectives.objective import Objective
from steerzo_edge.training.linearized import Tangent


@dataclass(frozen=True, slots=True)
class StepGradient:
    """The gradient of a step's batch loss at the master copy.

    Args:
        loss: Of the batch, in nats.
        norm: Of the gradient.
        vector: Of the parameters in `ExactGradients.span`, float32. The next gradient is written into the same
            memory.
        tangents: What the loss is to the layers below, if there are trained ones: one for each part of the batch.
    """

    loss: float
    norm: float
    vector: Tensor
    tangents: tuple[Tangent, ...] = ()

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
        first_layer: The lowest decoder layer that gets gradients; trained layers below it are left as they are.

    Attributes:
        span: The part of d that gets gradients.
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
        first_layer: int = 0,
    ) -> None:
        self._base = base
        self._leaves = Leaves(subset, first_layer)
        self.span = self._leaves.span
        self._below = Copies(subset, 1, slice(0, self.span.start)) if self.span.start > 0 else None
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
            loss, tangents = 0.0, []
            for part in self._parts(batch):
                share = len(part.indices) / len(batch.indices)
                states = self._states(part)
                with self._base.bank.route(self._leaves.patches):
                    found, gradient = self._add(part, share, states)
                loss += share * found
                if states is not None and gradient is not None:
                    tangents.append(Tangent.at(part.indices, states, found, gradient[0].div_(share)))
            vector = self._leaves.gradient
            return StepGradient(loss, float(vector.norm()), vector, tuple(tangents))

    def _add(self, rows: Batch, share: float, states: HiddenStates | None) -> tuple[float, Tensor | None]:
        """Adds the gradient of some rows' mean loss times their share of the batch.

        Returns:
            That mean loss; and, if there are trained layers below, the gradient of `states`, times the share.
        """
        tape = Tape(self._leaves, self._keep_from, to_input=self._below is not None)
        with torch.enable_grad(), self._base.recorded(tape):
            (loss,) = self._objective(self._base, rows, 1, states)
            (gradient,) = torch.autograd.grad(loss, tape.result, torch.full_like(loss, share))
        return float(loss.detach()), self._base.pull_back(rows.packed, tape, gradient)

    def _states(self, rows: Batch) -> HiddenStates | None:
        """The hidden states that enter the lowest layer with gradients; None to begin at the embedding."""
        found = None if self._prefix is None else self._prefix.of(rows.packed)
        if self._below is not None:
            with self._base.bank.route(self._below.hold()):
                found = self._base.hidden_at(self._leaves.lowest, rows.packed, found)
        if found is None:
            return None
        # Autograd takes no tensors that were made in inference mode.
        return HiddenStates(found.layer, found.states.clone()) if found.states.is_inference() else found
