"""Runs the layers below the lowest adapted one once for K probes, whose hidden states are equal up to there.

    layers 0 .. e-1    do not run, if the hidden states that enter layer e are given
    layers e .. b-1    run once, on (1, S)
    layer  b           the hidden states are repeated to (K, S)
    layers b .. L-1    run on (K, S)

The decoder's layers stay in place; each one's `forward` asks the active plan first. That works for every family
whose layers take hidden states and return hidden states, however it computes positions.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from steerzo_edge.model.tape import Tape


@dataclass(slots=True)
class Plan:
    """Which layers one forward runs, and on how many copies.

    Args:
        branch_layer: b, the layer from which on there are K copies.
        copies: K.
        states: (1, S, D) hidden states that enter layer e, or None to begin at the embedding.
        first_layer: e.
        stop_layer: Run nothing from this layer on, at or above b; only `reached` is wanted. None runs all layers.
        reached: (K, S, D) hidden states that entered `stop_layer`; set by the forward.
        tape: Runs the layers from b on, so that a gradient can be carried back through them; None just runs them.
    """

    branch_layer: int
    copies: int = 1
    states: Tensor | None = None
    first_layer: int = 0
    stop_layer: int | None = None
    reached: Tensor | None = None
    tape: Tape | None = None


class BranchedLayers:
    """The decoder layers of a model, which follow plans.

    Args:
        layers: Of the decoder; their `forward` is wrapped in place.
    """

    def __init__(self, layers: nn.ModuleList) -> None:
        self._plan: Plan | None = None
        self._returns_tuple = False
        for index, layer in enumerate(layers):
            layer.forward = self._planned(index, layer.forward)

    @contextmanager
    def under(self, plan: Plan | None) -> Iterator[None]:
        """Forwards inside the block follow the plan; None runs every layer once, as it is."""
        before, self._plan = self._plan, plan
        try:
            yield
        finally:
            self._plan = before

    def _planned(self, index: int, forward: Callable[..., Any]) -> Callable[..., Any]:
        def planned(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
            plan = self._plan
            if plan is None:
                returned = forward(hidden_states, *args, **kwargs)
                self._returns_tuple = isinstance(returned, tuple)
                return returned
            if index < plan.first_layer or (plan.stop_layer is not None and index > plan.stop_layer):
                return self._unchanged(hidden_states)
            if index == plan.first_layer and plan.states is not None:
                hidden_states = plan.states
            if index == plan.branch_layer:
                hidden_states = hidden_states.expand(plan.copies, -1, -1)
            if index == plan.stop_layer:
                plan.reached = hidden_states
                return self._unchanged(hidden_states)
            if plan.tape is not None and index >= plan.branch_layer:
                return plan.tape.run(index, forward, hidden_states, args, kwargs)
            return forward(hidden_states, *args, **kwargs)

        return planned

    def _unchanged(self, hidden_states: Tensor) -> Any:
        """The same hidden states, in the form in which the family's layers return them."""
        return (hidden_states,) if self._returns_tuple else hidden_states
