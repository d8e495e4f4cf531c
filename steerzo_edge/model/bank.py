"""The adapter bank: one mechanism for K probes of one adapter and for K adapters of many users.

Every linear layer of the base is wrapped once. What is added to its product is a `Patch`, found by the layer's
name in the bank's active route; without one, the layer is the base itself.

    uniform(adapter)      all rows, one adapter                             evaluation, a single prompt
    stacked(copies)       K equal groups of rows, copy k on group k         the oracle: K probes in ONE forward
    rows([a, None, b])    every row its own adapter, or none                many users in one batch

A route is set around a forward and taken back after it, also when the forward raises. Not thread-safe: one
thread owns the model. A long forward offers it to others before every linear layer: see `preemption_hook`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from steerzo_edge.model.layers import features, layer_index, linear_layers
from steerzo_edge.model.quantization import FrozenLinear, Linear, dequantized
from steerzo_edge.model.row_loras import RowLoras


class Patch(Protocol):
    """What an adapter does to one linear layer, for G equal groups of rows."""

    @property
    def groups(self) -> int:
        """G: how many equal, consecutive groups the rows are cut into."""
        ...

    def __call__(self, base: Linear, x: Tensor) -> Tensor:
        """(G * n, ..., D) to (G * n, ..., O)."""
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
            low = nn.functional.linear(x, self.a[0]).view(groups, -1, self.a.shape[1])  # (G, n, R)
        else:
            low = torch.bmm(x.reshape(groups, -1, x.shape[-1]), self.a.transpose(1, 2))  # (G, n, R)
        # The base's product is ours alone, so the adapter's is added in place.
        out.view(groups, -1, width).baddbmm_(low, self.b.transpose(1, 2), alpha=self.scale)
        return out


@dataclass(frozen=True, slots=True)
class LoraXsPatch:
    """base(x) + scale * ((x right^T) core^T) left^T, with a core for each group.

    Args:
        right: (R, D), shared by all groups.
        core: (G, R, R).
        left: (O, R), shared by all groups.
        scale: alpha / R.
    """

    right: Tensor
    core: Tensor
    left: Tensor
    scale: float

    @property
    def groups(self) -> int:
        """G."""
        return self.core.shape[0]

    def __call__(self, base: Linear, x: Tensor) -> Tensor:
        """See `Patch`; base and both factors run once over all rows, only the cores' products go by group."""
        out = base(x)
        groups, rank, _ = self.core.shape
        low = nn.functional.linear(x, self.right).view(groups, -1, rank)  # (G, n, R)
        mixed = torch.bmm(low, self.core.transpose(1, 2)).flatten(0, 1)  # (G * n, R)
        out.view(-1, out.shape[-1]).addmm_(mixed, self.left.T, alpha=self.scale)
        return out


@dataclass(frozen=True, slots=True)
class WeightPatch:
    """x W^T + bias with a whole weight for each group; the base layer does not run.

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
            return nn.functional.linear(x, self.weight[0], self.bias)
        out = torch.bmm(x.reshape(groups, -1, x.shape[-1]), self.weight.transpose(1, 2))  # (G, n, O)
        out = out.view(*x.shape[:-1], width)
        return out if self.bias is None else out + self.bias


@dataclass(frozen=True, slots=True)
class MixedPatch:
    """A patch of its own (or none) for each row, where they do not stack into one LoraPatch.

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


class BankLinear(nn.Module):
    """A frozen linear layer that asks the bank what to add.

    Args:
        name: Dotted name in the model; the key of its patch.
        base: The frozen layer.
        bank: Whose active route is asked.
    """

    def __init__(self, name: str, base: nn.Module, bank: "AdapterBank") -> None:
        super().__init__()
        self.base = base
        self.name = name
        self.in_features, self.out_features = features(base)
        self._bank = [bank]  # in a list, so that torch does not take the bank for a submodule
        self._frozen = FrozenLinear(base)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) to (..., O), through the active patch if there is one."""
        bank = self._bank[0]
        multiply = self._frozen.decode_matmul
        if bank.is_batch_pass:
            bank.preemption_hook()
            multiply = self._frozen.batch_matmul
        patch = bank.active.get(self.name)
        return multiply(x) if patch is None else patch(multiply, x)

    def weight_like_base(self, dtype: torch.dtype) -> Tensor:
        """The frozen weight, dequantized: (O, D)."""
        return dequantized(self.base, dtype)

    def forget_packed(self) -> None:
        """Lets go of the copy that generation multiplies by; it is made again when it is needed."""
        self._frozen.forget_packed()

    @property
    def bias(self) -> Tensor | None:
        """(O,) bias of the frozen layer, or None."""
        return self.base.bias  # type: ignore[return-value]


class AdapterBank:
    """All patchable layers of a model and the route that is active.

    Args:
        model: Its linear decoder layers are wrapped in place.

    Attributes:
        layers: The wrapped layers by dotted name, lowest first.
        active: The route of the forward that runs now.
        fan: The decoder layer from which on the active route has rows that differ; 0 without a route.
        is_batch_pass: Whether the forward that runs now is one of the engine's, with many tokens at once.
        preemption_hook: Called before every linear layer of such a forward; code that uses the model from
            there must do so inside `Base.preempted`.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.active: Patches = {}
        self.fan = 0
        self.is_batch_pass = False
        self.preemption_hook: Callable[[], None] = no_preemption
        self.layers: dict[str, BankLinear] = {}
        for name, module in linear_layers(model).items():
            self.layers[name] = BankLinear(name, module, self)
            model.set_submodule(name, self.layers[name])
        self._index = {name: layer_index(name) for name in self.layers}

    @contextmanager
    def route(self, patches: Patches, fan: int | None = None) -> Iterator[None]:
        """Makes `patches` active for the forwards inside the block.

        Args:
            patches: By layer name.
            fan: The decoder layer from which on they have rows that differ; by default the lowest of theirs.
        """
        before = self.active, self.fan
        self.active = patches
        self.fan = self.lowest(patches) if fan is None else fan
        try:
            yield
        finally:
            self.active, self.fan = before

    def forget_packed(self) -> None:
        """Lets go of the copies of 4-bit weights that generation multiplies by."""
        for layer in self.layers.values():
            layer.forget_packed()

    def lowest(self, names: Iterable[str]) -> int:
        """The lowest decoder layer among some linear layers; 0 if there are none."""
        return min((self._index[name] for name in names), default=0)


def no_preemption() -> None:
    """Who waits for the model where nothing is served: see `AdapterBank.preemption_hook`."""


def uniform(adapter: Patches | None) -> Patches:
    """The route where all rows use one adapter, or the bare base for None."""
    return {} if adapter is None else adapter


def rows(adapters: Sequence[Patches | None]) -> Patches:
    """The route where row i uses adapters[i], or the bare base for None.

    Args:
        adapters: One for each row of the batch; patches of one group each. Ranks and targets may differ.
    """
    names = dict.fromkeys(name for adapter in adapters if adapter for name in adapter)
    return {name: _of_rows([None if a is None else a.get(name) for a in adapters]) for name in names}


def _of_rows(patches: Sequence[Patch | None]) -> Patch:
    if any(not isinstance(patch, LoraPatch) for patch in patches if patch is not None):
        return MixedPatch(tuple(patches))
    a, b = _stacked([patch for patch in patches if isinstance(patch, LoraPatch)])
    if len(a) < len(patches):
        there = [row for row, patch in enumerate(patches) if patch is not None]
        a, b = (
            part.new_zeros(len(patches), *part.shape[1:]).index_copy_(
                0, torch.tensor(there, device=part.device), part
            )
            for part in (a, b)
        )
    return RowLoras(a, b) if a.device.type == "cpu" else LoraPatch(a, b, 1.0)


def _stacked(loras: Sequence[LoraPatch]) -> tuple[Tensor, Tensor]:
    """(n, R, D) and (n, O, R), multiplied by the scale; what lies behind a lower rank is zero.

    In few calls where adapters are of one kind: it is done for every layer whenever a row joins or leaves.
    """
    ranks = [lora.a.shape[1] for lora in loras]
    if len({(lora.a.shape[1], lora.scale) for lora in loras}) == 1:
        return torch.cat([lora.a for lora in loras]), torch.cat([lora.b for lora in loras]).mul_(loras[0].scale)
    rank = max(ranks)
    a = loras[0].a.new_zeros(len(loras), rank, loras[0].a.shape[2])
    b = loras[0].b.new_zeros(len(loras), loras[0].b.shape[1], rank)
    for row, (lora, own) in enumerate(zip(loras, ranks, strict=True)):
        a[row, :own] = lora.a[0]
        b[row, :, :own] = lora.b[0] * lora.scale
    return a, b
