"""What is trainable: one float32 vector, and the views of it that the layers see.

The master copy is written by the update rule alone. Probes live in `Copies`: perturbed versions of it in the
compute type, made from it and thrown away, so that no evaluation can ever change it.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from steerzo_edge.model.bank import Patches


@dataclass(frozen=True, slots=True)
class Slot:
    """A matrix inside the vector.

    Args:
        layer: Dotted name of the linear layer.
        part: "A", "B" (LoRA) or "W" (a whole weight).
        shape: Of the matrix.
        start: Offset of its first number.
    """

    layer: str
    part: str
    shape: tuple[int, int]
    start: int

    def of(self, flat: Tensor) -> Tensor:
        """The matrix in (..., d) vectors: (..., rows, columns), a view."""
        part = flat[..., self.start : self.start + math.prod(self.shape)]
        return part.view(*flat.shape[:-1], *self.shape)


def lay_out(matrices: list[tuple[str, str, tuple[int, int]]]) -> list[Slot]:
    """Slots one behind the other, from (layer, part, shape)."""
    slots, start = [], 0
    for layer, part, shape in matrices:
        slots.append(Slot(layer, part, shape, start))
        start += math.prod(shape)
    return slots


class Subset(Protocol):
    """The trainable part of an adapter."""

    @property
    def parameters(self) -> Tensor:
        """(d,) float32 master copy; only an update rule writes here."""
        ...

    @property
    def compute_dtype(self) -> torch.dtype:
        """The type layers compute in."""
        ...

    def patches(self, flat: Tensor) -> Patches:
        """Patches that read K parameter vectors.

        Args:
            flat: (K, d) in the compute type; the patches are views of it.
        """
        ...

    def export(self) -> dict[str, Tensor]:
        """The adapter's tensors by their names in a PEFT file, float32, on the CPU."""
        ...

    def peft_config(self) -> dict[str, object]:
        """The adapter's `adapter_config.json`."""
        ...


class Copies:
    """Room for K versions of a subset, to be stacked in one forward.

    Args:
        subset: Whose master copy they start from.
        count: K.
    """

    def __init__(self, subset: Subset, count: int) -> None:
        parameters = subset.parameters
        self._subset = subset
        self._flat = torch.empty(count, parameters.numel(), dtype=subset.compute_dtype, device=parameters.device)
        self._patches: dict[int, Patches] = {}

    @property
    def count(self) -> int:
        """K."""
        return self._flat.shape[0]

    def hold(self) -> Patches:
        """Copies the master into slot 0; returns the patches of that one version."""
        self._flat[0].copy_(self._subset.parameters)
        return self.stacked(1)

    def write(self, index: int, segment: slice, values: Tensor) -> None:
        """Stores one segment of one version, cast to the compute type.

        Args:
            index: Which of the K.
            segment: Where in d.
            values: (length,) float32.
        """
        self._flat[index, segment].copy_(values)

    def stacked(self, count: int) -> Patches:
        """The route where the first `count` versions take one group of rows each."""
        if count not in self._patches:
            self._patches[count] = self._subset.patches(self._flat[:count])
        return self._patches[count]
