"""Finds the directions that each layer's inputs span, on the base without an adapter.

One forward over a few rows; each layer's inputs are reduced to R directions as the forward passes the layer, so
that it needs no more memory than inference. A LoRA whose A spans these directions wastes no probe on features that
do not occur in its layer's inputs. Sources: AGZO, arXiv:2601.17261; ZO-Act, arXiv:2607.01125.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from steerzo_edge.data.packing import Packed
from steerzo_edge.errors import BaseModelError, ProfileError
from steerzo_edge.model.bank import BankLinear
from steerzo_edge.model.base import Base
from steerzo_edge.model.patches import Linear
from steerzo_edge.model.spectrum import leading
from steerzo_edge.seeds import derive_seed


def input_subspace(base: Base, layers: Mapping[str, BankLinear], packed: Packed, *, rank: int, seed: int) -> Tensor:
    """Computes an A for each layer that spans the leading directions of the layer's own inputs.

    Args:
        base: The frozen model, without an adapter.
        layers: The bank's layers, by dotted name.
        packed: The rows of the forward.
        rank: R.
        seed: For the start of the subspace iteration.

    Returns:
        Every layer's (R, D), in one flat float32 tensor, in the order of `layers`. The rows are orthonormal times
        one scalar a layer, chosen so that the mean square of A x over these tokens is R |x|^2 / (3 D). A random A
        (uniform in +-1 / sqrt(D)) gives the same, so epsilon and learning rate mean the same for both.

    Raises:
        ProfileError: If a layer has fewer than R in-features.
        BaseModelError: If a layer's inputs are not finite.
    """
    for name, layer in layers.items():
        if rank > layer.in_features:
            raise ProfileError(f"subset.rank is {rank}, but layer {name!r} has {layer.in_features} in-features")
    watchers = {name: _Watcher(name, rank, derive_seed("directions", seed, name)) for name in layers}
    with torch.inference_mode(), base.bank.route(watchers):
        base.hidden(packed)
    return torch.cat([watcher.found[0].flatten() for watcher in watchers.values()])


@dataclass(frozen=True, slots=True)
class _Watcher:
    """A patch that changes nothing, and records the directions of its inputs."""

    name: str
    rank: int
    seed: int
    found: list[Tensor] = field(default_factory=list)

    @property
    def groups(self) -> int:
        """One."""
        return 1

    def __call__(self, base: Linear, x: Tensor) -> Tensor:
        """See `Patch`."""
        self.found.append(self._directions(x.flatten(0, -2)))
        return base(x)

    def _directions(self, x: Tensor) -> Tensor:
        depth = x.shape[1]
        energy = float(torch.linalg.vector_norm(x, dtype=torch.float32)) ** 2
        if not energy < math.inf:
            raise BaseModelError(f"the inputs of layer {self.name!r} are not finite")
        found = leading(x, self.rank, torch.Generator().manual_seed(self.seed))
        seen = float(found.values.square().sum())
        # Inputs that are all zero have no scale: the rows get the length of a random A's.
        square = self.rank * energy / (3 * depth * seen) if seen > 0 else 1 / 3
        return found.right * math.sqrt(square)
