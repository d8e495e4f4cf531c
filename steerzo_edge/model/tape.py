"""Records the decoder layers of one forward, and carries a gradient back through them, one layer at a time.

    forward     h0 -> [layer] -> h1 -> [layer] -> h2 -> ... -> result -> final norm, head, loss
    backward                   <- recompute and pull back <- recompute and pull back <- gradient of the result

Each layer is a graph of its own, from a leaf that holds its input to its result. A layer that is not kept runs
without a graph first, and once more when its turn comes, so that the tensors that autograd saves exist for one
layer at a time (arXiv:1604.06174). Both ways compute the same numbers. The walk over the layers is a loop on the
thread that owns the model; other work may use the model between two of them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from steerzo_edge.model.leaves import Leaves

Layer = Callable[..., Any]


@dataclass(slots=True)
class _Call:
    """A decoder layer's call: what it was given, and its result if its graph is kept."""

    layer: int
    forward: Layer
    states: Tensor
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    result: Tensor | None = None

    def run(self) -> Tensor:
        """The layer's result, (K, S, D), with its graph."""
        with torch.enable_grad():
            return _states(self.forward(self.states, *self.args, **self.kwargs))


class Tape:
    """The layers of one forward.

    Args:
        leaves: The trained matrices; a forward that reads their patches is recorded.
        keep_from: The lowest decoder layer whose graph is kept from the forward to the backward pass; those below
            it run twice.
        to_input: Whether the gradient of what enters the lowest recorded layer is wanted.
    """

    def __init__(self, leaves: Leaves, keep_from: int, *, to_input: bool = False) -> None:
        self._leaves = leaves
        self._keep_from = keep_from
        self._to_input = to_input
        self._calls: list[_Call] = []
        self._result: Tensor | None = None

    @property
    def result(self) -> Tensor:
        """The last layer's result as a leaf: what the loss was computed from."""
        assert self._result is not None
        return self._result

    def run(
        self, layer: int, forward: Layer, states: Tensor, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """Runs a decoder layer, and records it.

        Args:
            layer: From 0; the lowest trained one first, then in order.
            forward: The layer's own forward.
            states: (1, S, D), its input.
            args: Its other arguments, none of which depends on a trained matrix.
            kwargs: The same by name.

        Returns:
            What the layer returns, with hidden states that are a leaf of autograd.
        """
        leaf = states.detach().requires_grad_(self._to_input or layer > self._leaves.lowest)
        call = _Call(layer, forward, leaf, args, kwargs)
        if layer >= self._keep_from:
            with torch.enable_grad():
                returned = forward(leaf, *args, **kwargs)
            call.result = _states(returned)
        else:
            with torch.no_grad():
                returned = forward(leaf, *args, **kwargs)
        self._calls.append(call)
        self._result = _states(returned).detach().requires_grad_()
        return (self._result, *returned[1:]) if isinstance(returned, tuple) else self._result

    def pull_back(self, gradient: Tensor, between: Callable[[], None]) -> Tensor | None:
        """Adds to the leaves' gradient what a gradient of the result means for them; empties the tape.

        Args:
            gradient: As `result`.
            between: Called before each layer.

        Returns:
            The gradient of what entered the lowest recorded layer, (1, S, D); None if it was not asked for.
        """
        self._result = None
        while self._calls:
            call = self._calls.pop()
            between()
            result = call.run() if call.result is None else call.result
            own = self._leaves.of(call.layer)
            inputs = [call.states, *own] if call.states.requires_grad else own
            found = torch.autograd.grad(result, inputs, gradient, allow_unused=True)
            self._leaves.add(call.layer, found[len(inputs) - len(own) :])
            if call.states.requires_grad:
                assert found[0] is not None
                gradient = found[0]
        return gradient if self._to_input else None


def _states(returned: Any) -> Tensor:
    """The hidden states among what a decoder layer returns."""
    found: Tensor = returned[0] if isinstance(returned, tuple) else returned
    return found
