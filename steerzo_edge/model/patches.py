"""Patches: what an adapter does to one linear layer of the frozen base.

Each takes the base's product as a function, so that the base layer runs once for all rows, or not at all.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from steerzo_edge.model.matmul import add_product, linear, matmul

Linear = Callable[[Tensor], Tensor]


class Patch(Protocol):
    """Computes the output of one linear layer with an adapter, for G equal groups of rows."""

    @property
    def groups(self) -> int:
        """G: how many equal, consecutive groups the rows are cut into."""
        ...

    def __call__(self, base: Linear, x: Tensor) -> Tensor:
        """From input to output.

        Args:
            base: The frozen layer's product; its result is a fresh tensor, which a patch may change in place.
            x: (G * n, ..., D).

        Returns:
            (G * n, ..., O).
        """
        ...


Patches = Mapping[str, Patch]


@dataclass(frozen=True, slots=True)
class LoraPatch:
    """base(x) + scale * (x A^T) B^T, with a pair (A, B) for each group.

    Args:
        a: (G, R, D), or (1, R, D) shared by all groups.
        b: (G, O, R).
        scale: alpha / R.
    """

    a: Tensor
    b: Tensor
    scale: float

    @property
    def groups(self) -> int:
        """G."""
        return self.b.shape[0]

    def __call__(self, base: Linear, x: Tensor) -> Tensor:
        """See `Patch`; the base layer runs once over all rows."""
        out = base(x)
        groups, width, _ = self.b.shape
        if self.a.shape[0] == 1:
            low = linear(x, self.a[0]).view(groups, -1, self.a.shape[1])  # (G, n, R)
        else:
            low = matmul(x.reshape(groups, -1, x.shape[-1]), self.a.transpose(1, 2))  # (G, n, R)
        # `out` is a fresh tensor, so the adapter's product may be added in place.
        added = add_product(out.view(groups, -1, width), low, self.b.transpose(1, 2), self.scale)
        return added.view(out.shape)


@dataclass(frozen=True, slots=True)
class DoraPatch:
    """ratio * (base(x) - bias + scale * (x A^T) B^T) + bias: a LoRA whose outputs have magnitudes of their own.

    Source: arXiv:2402.09353.

    Args:
        lora: The pair, of one group.
        ratio: (O,) float32, each output's magnitude divided by the norm of its row of W + scale * B A.
        bias: (O,) float32 of the frozen layer, or None.
    """

    lora: LoraPatch
    ratio: Tensor
    bias: Tensor | None

    @property
    def groups(self) -> int:
        """One group."""
        return 1

    def __call__(self, base: Linear, x: Tensor) -> Tensor:
        """See `Patch`; the sum is rounded once."""
        out = base(x)
        low = linear(x.float(), self.lora.a[0].float())
        added = linear(low, self.lora.b[0].float()) * self.lora.scale
        kept = out.float() if self.bias is None else out.float() - self.bias
        found = (kept + added) * self.ratio
        return (found if self.bias is None else found + self.bias).to(out.dtype)


@dataclass(frozen=True, slots=True)
class LoraXsPatch:
    """base(x) + scale * ((x right^T) middle^T) left^T, with a middle matrix for each group.

    Args:
        right: (R, D), shared by all groups.
        middle: (G, R, R).
        left: (O, R), shared by all groups.
        scale: alpha / R.
    """

    right: Tensor
    middle: Tensor
    left: Tensor
    scale: float

    @property
    def groups(self) -> int:
        """G."""
        return self.middle.shape[0]

    def __call__(self, base: Linear, x: Tensor) -> Tensor:
        """See `Patch`; only the middle matrices are applied group by group, all else once over all rows."""
        out = base(x)
        groups, rank, _ = self.middle.shape
        low = linear(x, self.right).view(groups, -1, rank)  # (G, n, R)
        mixed = matmul(low, self.middle.transpose(1, 2)).flatten(0, 1)  # (G * n, R)
        return add_product(out.view(-1, out.shape[-1]), mixed, self.left.T, self.scale).view(out.shape)


@dataclass(frozen=True, slots=True)
class WeightPatch:
    """x W^T + bias with a full weight matrix for each group; the base layer does not run.

    Args:
        weight: (G, O, D).
        bias: (O,) of the frozen layer, or None.
    """

    weight: Tensor
    bias: Tensor | None

    @property
    def groups(self) -> int:
        """G."""
        return self.weight.shape[0]

    def __call__(self, base: Linear, x: Tensor) -> Tensor:
        """See `Patch`."""
        groups, width, _ = self.weight.shape
        if groups == 1:
            return linear(x, self.weight[0], self.bias)
        out = matmul(x.reshape(groups, -1, x.shape[-1]), self.weight.transpose(1, 2))  # (G, n, O)
        out = out.view(*x.shape[:-1], width)
        return out if self.bias is None else out + self.bias


@dataclass(frozen=True, slots=True)
class MixedPatch:
    """A patch of its own (or none) for each row, for patches that cannot be stacked into one LoraPatch.

    Args:
        patches: One for each row of the batch, each of one group.
    """

    patches: tuple[Patch | None, ...]

    @property
    def groups(self) -> int:
        """One group a row."""
        return len(self.patches)

    def __call__(self, base: Linear, x: Tensor) -> Tensor:
        """See `Patch`; rows that share a patch go through it together."""
        grouped = x.view(self.groups, -1, x.shape[-1])
        parts: dict[int, list[int]] = {}
        for row, patch in enumerate(self.patches):
            parts.setdefault(id(patch), []).append(row)
        out: Tensor | None = None
        for rows in parts.values():
            patch = self.patches[rows[0]]
            part = base(grouped[rows]) if patch is None else patch(base, grouped[rows])
            if out is None:
                out = part.new_empty(self.groups, *part.shape[1:])
            out[rows] = part
        assert out is not None
        return out.view(*x.shape[:-1], out.shape[-1])
