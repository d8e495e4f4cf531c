"""Where K probes part ways: below the lowest adapted layer all of them are the same.

    layers 0 .. e-1    do not run, if what enters layer e is at hand
    layers e .. f-1    run once, on (1, S)
    layer  f           the hidden states fan out to (K, S)
    layers f .. L-1    run on (K, S)

The decoder's layers stay in place; each one's `forward` asks the active plan first. That works for every family
whose layers take hidden states and give them back, whatever they do about positions.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass(slots=True)
class Plan:
    """One forward.

    Args:
        fan: f, the layer where the hidden states fan out.
        copies: K.
        entering: (1, S, D) hidden states that enter layer e, or None to begin at the embedding.
        enter: e.
        stop: Run nothing from layer f on; `reached` is all that is wanted.
        reached: (1, S, D) hidden states that reached layer f, once the forward has run.
    """

    fan: int
    copies: int = 1
    entering: Tensor | None = None
    enter: int = 0
    stop: bool = False
    reached: Tensor | None = None


class BranchedLayers:
    """The decoder layers of a model, under plans.

    Args:
        layers: Of the decoder; their `forward` is wrapped in place.
    """

    def __init__(self, layers: nn.ModuleList) -> None:
        self._plan: Plan | None = None
        self._gives_tuple = False
        for index, layer in enumerate(layers):
            layer.forward = self._planned(index, layer.forward)

    @contextmanager
    def under(self, plan: Plan | None) -> Iterator[None]:
        """Forwards inside the block follow the plan; None lets every layer run once, as it is."""
        before, self._plan = self._plan, plan
        try:
            yield
        finally:
            self._plan = before

    def _planned(self, index: int, forward: Callable[..., Any]) -> Callable[..., Any]:
        def planned(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
            plan = self._plan
            if plan is None:
                given = forward(hidden_states, *args, **kwargs)
                self._gives_tuple = isinstance(given, tuple)
                return given
            if index < plan.enter or (plan.stop and index > plan.fan):
                return self._as_given(hidden_states)
            if index == plan.enter and plan.entering is not None:
                hidden_states = plan.entering
            if index == plan.fan:
                plan.reached = hidden_states
                if plan.stop:
                    return self._as_given(hidden_states)
                hidden_states = hidden_states.expand(plan.copies, -1, -1)
            return forward(hidden_states, *args, **kwargs)

        return planned

    def _as_given(self, hidden_states: Tensor) -> Any:
        """Unchanged hidden states, in the form the family's layers give them."""
        return (hidden_states,) if self._gives_tuple else hidden_states
