"""The trained matrices of a subset as leaves of autograd, and the sum of their gradients.

The matrices are in the compute type, as a forward reads them; the sum is one flat float32 vector.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from steerzo_edge.model.layers import layer_index
from steerzo_edge.model.patches import Patches
from steerzo_edge.model.subset import Slot, Subset


class Leaves:
    """One version of a subset's parameters that gradients are taken of.

    Args:
        subset: Its master copy is what `write` copies.

    Attributes:
        gradient: (d,) float32, the sum of what `add` was given since `write`.
        patches: They read the leaves.
    """

    def __init__(self, subset: Subset) -> None:
        self._subset = subset
        self.gradient = torch.zeros_like(subset.parameters)
        self._flat = torch.zeros_like(subset.parameters, dtype=subset.compute_dtype)
        self._layers: dict[int, list[tuple[Slot, Tensor]]] = {}
        trained = {}
        for slot in subset.slots:
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
            self._flat.copy_(self._subset.parameters)
        self.gradient.zero_()

    def of(self, layer: int) -> list[Tensor]:
        """The leaves of a decoder layer; none where nothing is trained."""
        return [leaf for _, leaf in self._layers.get(layer, [])]

    def add(self, layer: int, gradients: Sequence[Tensor | None]) -> None:
        """Adds gradients of a layer's leaves, in the order of `of`; None: the forward did not use the matrix."""
        for (slot, _), gradient in zip(self._layers.get(layer, []), gradients, strict=True):
            if gradient is not None:
                slot.of(self.gradient).add_(gradient[0])
