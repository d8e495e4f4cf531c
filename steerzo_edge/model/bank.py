"""The adapter bank: one mechanism for K probes of one adapter and for K adapters of many users.

Every linear layer of the base is wrapped once. What is added to its product is a `Patch`, found by the layer's
name in the bank's active route (see `routes.py`); without one, the layer is the base itself.

A route is set around a forward and removed after it, also when the forward raises. Not thread-safe: one thread owns
the model. A long forward lets other work use the model before every linear layer: see `preemption_hook`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from steerzo_edge.model.frozen_product import frozen_product
from steerzo_edge.model.layers import features, layer_index, linear_layers
from steerzo_edge.model.matmul import product_dtype
from steerzo_edge.model.patches import Linear, Patches
from steerzo_edge.model.quantization import frozen_linear
from steerzo_edge.model.row_loras import RowLoras
from steerzo_edge.model.weights.storage import FrozenLinear, JoinableLinear


class BankLinear(nn.Module):
    """A frozen linear layer that asks the bank what to add.

    Args:
        name: Dotted name in the model; the key of its patch.
        base: The frozen layer.
        bank: Holds the active route.
    """

    def __init__(self, name: str, base: nn.Module, bank: "AdapterBank") -> None:
        super().__init__()
        self.base = base
        self.name = name
        self.in_features, self.out_features = features(base)
        self._bank = [bank]  # in a list, so that torch does not take the bank for a submodule
        self._frozen: FrozenLinear = frozen_linear(base)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) to (..., O), through the active patch if there is one."""
        bank = self._bank[0]
        multiply = self._frozen.decode_matmul
        if bank.is_batch_pass:
            bank.preemption_hook()
            multiply = self._frozen.batch_matmul
            if torch.is_grad_enabled():
                multiply = partial(frozen_product, self._frozen)
        elif bank.reads_prompts and product_dtype(x) != x.dtype:
            multiply = self._frozen.batch_matmul  # a prompt's last chunk may be a single token
        patch = bank.active.get(self.name)
        return multiply(x) if patch is None else patch(multiply, x)

    def weight_like_base(self, dtype: torch.dtype) -> Tensor:
        """The frozen weight, dequantized: (O, D)."""
        return self._frozen.weight(dtype)

    def forget_packed(self) -> None:
        """Frees the copy of the weight that generation multiplies by; it is made again when it is needed."""
        self._frozen.forget_packed()

    @property
    def bias(self) -> Tensor | None:
        """(O,) bias of the frozen layer, or None."""
        return self._frozen.bias


class JoinedLinears:
    """Layers of the bank with the same input, for generation: multiplied in one call where their storage can.

    Args:
        layers: At least one; all of one bank.
        x: An input that they will be given; only its type and device matter.
    """

    def __init__(self, layers: Sequence[BankLinear], x: Tensor) -> None:
        self._layers = tuple(layers)
        self._widths = [layer.out_features for layer in layers]
        self._bank = layers[0]._bank[0]
        self._multiply: Linear = self._one_by_one
        first = layers[0]._frozen
        if len(layers) == 1:
            self._multiply = first.decode_matmul
        elif isinstance(first, JoinableLinear):
            self._multiply = type(first).joined([layer._frozen for layer in layers], x) or self._one_by_one

    def __call__(self, x: Tensor) -> Tensor:
        """(n, 1, D) to (n, 1, sum of O): what the layers return, concatenated, with the active patches."""
        out = self._multiply(x)
        active = self._bank.active
        if active:
            for layer, part in zip(self._layers, out.split(self._widths, -1), strict=True):
                patch = active.get(layer.name)
                if isinstance(patch, RowLoras):
                    patch.add(x, part)
                elif patch is not None:
                    part.copy_(patch(layer._frozen.decode_matmul, x))
        return out

    def _one_by_one(self, x: Tensor) -> Tensor:
        return torch.cat([layer._frozen.decode_matmul(x) for layer in self._layers], -1)


class _Expanded:
    """Multiplies by another layer's weight in float32. See `FrozenLinear`."""

    def __init__(self, frozen: FrozenLinear) -> None:
        self._frozen = frozen

    @property
    def bias(self) -> Tensor | None:
        return self._frozen.bias

    def batch_matmul(self, x: Tensor) -> Tensor:
        bias = self.bias
        return nn.functional.linear(x.float(), self.weight(torch.float32), None if bias is None else bias.float())

    def decode_matmul(self, x: Tensor) -> Tensor:
        return self.batch_matmul(x)

    def weight(self, dtype: torch.dtype) -> Tensor:
        return self._frozen.weight(dtype)

    def forget_packed(self) -> None:
        self._frozen.forget_packed()


class AdapterBank:
    """All patchable layers of a model and the route that is active.

    Args:
        model: Its linear decoder layers are wrapped in place.

    Attributes:
        layers: The wrapped layers by dotted name, lowest first.
        active: The route of the forward that runs now.
        branch_layer: The lowest decoder layer in which the active route's rows differ; 0 without a route.
        is_batch_pass: Whether the forward that runs now is one of the engine's, with many tokens at once.
        reads_prompts: Whether it reads chunks of prompts.
        preemption_hook: Called before every linear layer of such a forward; code that uses the model from
            there must do so inside `Base.preempted`.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.active: Patches = {}
        self.branch_layer = 0
        self.is_batch_pass = False
        self.reads_prompts = False
        self.preemption_hook: Callable[[], None] = no_preemption
        self.layers: dict[str, BankLinear] = {}
        for name, module in linear_layers(model).items():
            self.layers[name] = BankLinear(name, module, self)
            model.set_submodule(name, self.layers[name])
        self._index = {name: layer_index(name) for name in self.layers}

    @contextmanager
    def route(self, patches: Patches, branch_layer: int | None = None) -> Iterator[None]:
        """Makes `patches` active for the forwards inside the block.

        Args:
            patches: By layer name.
            branch_layer: The lowest decoder layer in which the rows differ; by default the lowest one with a patch.
        """
        before = self.active, self.branch_layer
        self.active = patches
        self.branch_layer = self.lowest(patches) if branch_layer is None else branch_layer
        try:
            yield
        finally:
            self.active, self.branch_layer = before

    @contextmanager
    def expanded(self) -> Iterator[None]:
        """Inside the block all layers multiply by their weights in float32, expanded one at a time.

        What a kernel rounds is left out, so two forwards that compute the same differ by float32's rounding only.
        """
        frozen = {name: layer._frozen for name, layer in self.layers.items()}
        for layer in self.layers.values():
            layer._frozen = _Expanded(layer._frozen)
        try:
            yield
        finally:
            for name, layer in self.layers.items():
                layer._frozen = frozen[name]

    def forget_packed(self) -> None:
        """Frees the copies of 4-bit weights that generation multiplies by."""
        for layer in self.layers.values():
            layer.forget_packed()

    def lowest(self, names: Iterable[str]) -> int:
        """The lowest decoder layer among some linear layers; 0 if there are none."""
        return min((self._index[name] for name in names), default=0)


def no_preemption() -> None:
    """No-op preemption hook, used when no server shares the model: see `AdapterBank.preemption_hook`."""
