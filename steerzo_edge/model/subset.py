"""Subsets: the trainable parameters as one float32 vector, and the patches that read it.

Only the update rule writes to the vector, the master copy. Probes are in `Copies`: perturbed versions of it in the
compute type, made for an evaluation and overwritten by the next, so that no evaluation can change the master copy.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from steerzo_edge.model.patches import Patches


@dataclass(frozen=True, slots=True)
class Slot:
    """A matrix inside the vector.

    Args:
        layer: Dotted name of the linear layer.
        part: "A" or "B" (LoRA), "C" (LoRA-XS) or "W" (a full weight).
        shape: Of the matrix.
        start: Offset of its first number.
    """

    layer: str
    part: str
    shape: tuple[int, int]
    start: int

    @property
    def stop(self) -> int:
        """Offset of the first number after it."""
        return self.start + math.prod(self.shape)

    def of(self, flat: Tensor) -> Tensor:
        """The matrix in (..., d) vectors: (..., rows, columns), a view."""
        part = flat[..., self.start : self.stop]
        return part.view(*flat.shape[:-1], *self.shape)


def lay_out(matrices: list[tuple[str, str, tuple[int, int]]]) -> list[Slot]:
    """Slots one after the other, from (layer, part, shape)."""
    slots, start = [], 0
    for layer, part, shape in matrices:
        slots.append(Slot(layer, part, shape, start))
        start += math.prod(shape)
    return slots


# Trained matrices by layer and part, (K, rows, columns) each.
Matrices = Mapping[tuple[str, str], Tensor]


class Subset(Protocol):
    """The trainable part of an adapter."""

    @property
    def parameters(self) -> Tensor:
        """(d,) float32 master copy; only an update rule writes here."""
        ...

    @property
    def frozen(self) -> Tensor:
        """Flat float32: numbers made from seed, rows or weights that are never trained; may be empty."""
        ...

    @property
    def slots(self) -> list[Slot]:
        """Every matrix of the vector, lowest decoder layer first, without gaps."""
        ...

    @property
    def compute_dtype(self) -> torch.dtype:
        """The type layers compute in."""
        ...

    def patches(self, flat: Tensor, span: slice | None = None) -> Patches:
        """Patches that read K parameter vectors, or the same part of K of them.

        Args:
            flat: (K, d) in the compute type, or (K, length of the span); the patches are views of it.
            span: Which part of d `flat` holds, in whole decoder layers; None for all.
        """
        ...

    def patches_of(self, trained: Matrices) -> Patches:
        """Patches that read these matrices of K parameter vectors.

        Args:
            trained: All matrices of some linear layers.
        """
        ...

    def export(self) -> dict[str, Tensor]:
        """The adapter's tensors by their names in a PEFT file, float32, on the CPU."""
        ...

    def peft_config(self) -> dict[str, object]:
        """The adapter's `adapter_config.json`."""
        ...


class Copies:
    """Memory for K versions of a subset, or of a part of it, which one forward uses together.

    Args:
        subset: Its master copy is what versions are made from.
        count: K.
        span: Which part of d; None for all.
    """

    def __init__(self, subset: Subset, count: int, span: slice | None = None) -> None:
        parameters = subset.parameters
        self.span = span or slice(0, parameters.numel())
        self._subset = subset
        self._flat = torch.empty(
            count, self.span.stop - self.span.start, dtype=subset.compute_dtype, device=parameters.device
        )
        self._patches: dict[int, Patches] = {}

    @property
    def count(self) -> int:
        """K."""
        return self._flat.shape[0]

    def hold(self) -> Patches:
        """Copies the master into the first version, and returns the patches of that version."""
        self._flat[0].copy_(self._subset.parameters[self.span])
        return self.stacked(1)

    def write(self, index: int, segment: slice, values: Tensor) -> None:
        """Stores one segment of one version, cast to the compute type.

        Args:
            index: Of the version, below K.
            segment: Where in d.
            values: (length,) float32.
        """
        start = self.span.start
        self._flat[index, segment.start - start : segment.stop - start].copy_(values)

    def stacked(self, count: int) -> Patches:
        """Patches of the first `count` versions: each is used by one group of rows."""
        if count not in self._patches:
            self._patches[count] = self._subset.patches(self._flat[:count], self.span)
        return self._patches[count]


def inside(slots: list[Slot], span: slice | None) -> list[Slot]:
    """The slots that lie in a part of the vector, as slots of that part."""
    if span is None:
        return slots
    return [
        replace(slot, start=slot.start - span.start)
        for slot in slots
        if span.start <= slot.start and slot.stop <= span.stop
    ]


def matrices(slots: list[Slot], flat: Tensor, span: slice | None = None) -> Matrices:
    """The matrices in K parameter vectors, or in the same part of K of them, as views."""
    return {(slot.layer, slot.part): slot.of(flat) for slot in inside(slots, span)}
