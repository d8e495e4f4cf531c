"""The trained matrices of a subset, or of its top layers, as leaves of autograd, and the sum of their gradients.

The matrices are in the compute type, as a forward reads them; the sum is one flat float32 vector.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from steerzo_edge.model.layers import layer_index
from steerzo_edge.model.patches import Patches
from steerzo_edge.model.subset import Slot, Subset, inside


class Leaves:
    """One version of a subset's parameters that gradients are taken of.

    Args:
        subset: Its master copy is what `write` copies.
        first_layer: The lowest decoder layer whose matrices are leaves.

    Attributes:
        span: The part of d that the leaves are.
        gradient: (length of the span,) float32, the sum of what `add` was given since `write`.
        patches: They read the leaves.
    """

    def __init__(self, subset: Subset, first_layer: int = 0) -> None:
        self._subset = subset
        start = next(slot.start for slot in subset.slots if layer_index(slot.layer) >= first_layer)
        self.span = slice(start, subset.parameters.numel())
        own = subset.parameters[self.span]
        self.gradient = torch.zeros_like(own)
        self._flat = torch.zeros_like(own, dtype=subset.compute_dtype)
        self._layers: dict[int, list[tuple[Slot, Tensor]]] = {}
        trained = {}
        for slot in inside(subset.slots, self.span):
            leaf = slot.of(self._flat).unsqueeze(0).detach().requires_grad_()
            trained[slot.layer, slot.part] = leaf
            self._layers.setdefault(layer_index(slot.layer), []).append((slot, leaf))
        self.patches: Patches = subset.patches_of(trained)

    @property
    def lowest(self) -> int:
        """The lowest decoder layer that has a leaf."""
        return min(self._layers)

    def write(self) -> None:
        """Takes the master copy's present values, and sets the gradient to zero."""
        with torch.no_grad():
            self._flat.copy_(self._subset.parameters[self.span])
        self.gradient.zero_()

    def of(self, layer: int) -> list[Tensor]:
        """The leaves of a decoder layer; none where nothing is trained."""
        return [leaf for _, leaf in self._layers.get(layer, [])]

    def add(self, layer: int, gradients: Sequence[Tensor | None]) -> None:
        """Adds gradients of a layer's leaves, in the order of `of`; None: the forward did not use the matrix."""
        for (slot, _), gradient in zip(self._layers.get(layer, []), gradients, strict=True):
            if gradient is not None:
                slot.of(self.gradient).add_(gradient[0])
